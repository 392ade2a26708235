// The dashboard: what is read for it, and in which order its sections stand.

live({
    refresh: () => readStatus(),
    skips: [["jobs", "To the jobs"]],
    view: () => html`<section class="card" id="jobs"><h2>Jobs</h2></section>`,
});
