// A client that openapi-typescript makes of the document, used as a program would; tests/it/openapi/client.rs
// compiles it, runs it with a replica's address, and reads what it prints.

import createClient from "openapi-fetch";
import type { paths } from "./schema.js";

declare const process: { argv: string[] };

const client = createClient<paths, `application/${string}`>({ baseUrl: process.argv[2] });
const say = (...values: unknown[]) => console.log(values.map(String).join(" "));

const { data: user } = await client.POST("/api/users", {
    params: { header: { "Idempotency-Key": "first" } },
    body: { balance: 5 },
});
say("user", user?.userId, user?.balance);

const change = (amount: number) => client.POST("/api/balance", { body: { userId: 1, amount } });
say("changed", (await change(-2)).data?.balance);
const { error: refusal, response } = await change(-20_000);
const left = refusal && "balance" in refusal ? refusal.balance : undefined;
say("refused", response.status, refusal?.code, left);

const { data: page } = await client.GET("/api/users/{id}/changes", {
    params: { path: { id: 1 }, query: { limit: 1 } },
});
say("change", page?.changes[0].amount, page?.changes[0].balanceAfter);
const { data: opening } = await client.GET("/api/users/{id}/balance", {
    params: { path: { id: 1 }, query: { number: 1 } },
});
say("at first", opening?.balance);

const name = "nightly";
await client.PUT("/api/cron/jobs/{name}", {
    params: { path: { name } },
    body: { function: "estimate-pi", schedule: "every 1h", enabled: true },
});
await client.PATCH("/api/cron/jobs/{name}", { params: { path: { name } }, body: { enabled: false } });
const { data: job } = await client.GET("/api/cron/jobs/{name}", { params: { path: { name } } });
say("job", job?.name, job?.state, job?.lastRun?.outcome ?? "never run");
const { error: paused } = await client.POST("/api/cron/jobs/{name}/run", { params: { path: { name } } });
say("refused", paused?.status, paused?.code);
const deleted = await client.DELETE("/api/cron/jobs/{name}", { params: { path: { name } } });
say("deleted", deleted.response.status);

const { data: status } = await client.GET("/api/cron/status");
say("jobs", status?.jobs.length, status?.counts.paused);
const { data: history } = await client.GET("/api/cron/history", {
    params: { query: { outcome: "failed", limit: 5 } },
});
say("runs", history?.runs.length, history?.next);
const { data: health } = await client.GET("/health");
say("health", health?.status);
