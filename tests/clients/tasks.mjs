// The loop of every driver that runs on node: a task a line in, what came of it a line out.
//
// A task is {"url", "way", "said"}. What came of it: `text`, the `calls` of tools that were run,
// the `value` of a structured answer, `stop`, why the answer ended, and the `error`, if any.

import { createInterface } from "node:readline";

export async function answerTasks(ways) {
  for await (const line of createInterface({ input: process.stdin })) {
    const { url, way, said } = JSON.parse(line);
    const got = { text: "", calls: [], value: null, stop: null, error: null };
    try {
      await ways[way](url, said, got);
    } catch (error) {
      got.error = `${error.name ?? error.type}: ${error.message}`;
      got.status = error.status ?? error.statusCode ?? error.lastError?.statusCode ?? null;
    }
    process.stdout.write(JSON.stringify(got) + "\n");
  }
}
