// The dashboard: what is read for it, and in which order its sections stand.

/** Reads one section: each is asked for anew when its last answer is there, and holds up no other. */
function alone(readSection) {
    let reading = null;
    return () => {
        reading ??= readSection().finally(() => { reading = null; draw(); });
        return reading;
    };
}

const sections = [readTimeline, readHistory, readUser].map(alone);

async function refresh() {
    await readStatus(askForStatus);
    const read = Promise.all(sections.map((section) => section()));
    // The first time all is drawn at once, so that nothing has to make room later.
    if (!loaded) await read;
}

live({
    refresh,
    dialogs: Dialogs,
    resume: ResumeAllButton,
    skips: [["jobs", "To the jobs"], ["servers", "To the servers"],
        ["history", "To the history"], ["user", "To the balance"]],
    view: () => html`<${Jobs} /><${Servers} />
        <div class="columns">
            <section class="card" id="history" aria-labelledby="history-title">
                <h2 id="history-title">History</h2><${History} />
            </section>
            <${UserCard} short />
        </div>`,
});
