// The Vercel AI SDK: `baseURL` of its provider for Anthropic, or $ANTHROPIC_BASE_URL.

import { createAnthropic } from "@ai-sdk/anthropic";
import { generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { answerTasks } from "./tasks.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false;

function asking(url, said, maxRetries = 0) {
  const model = createAnthropic({ apiKey: "test", baseURL: url })("claude-sonnet-5-5");
  return { model, prompt: said, maxRetries };
}

function take(result, got) {
  got.text = result.text;
  got.stop = result.finishReason;
}

await answerTasks({
  // With the default of 2 it asks again after a 529, whatever the answer says of that.
  async with_retries(url, said, got) {
    take(await generateText(asking(url, said, 2)), got);
  },

  async chat(url, said, got) {
    take(await generateText(asking(url, said)), got);
  },

  async stream(url, said, got) {
    let failed = null;
    const result = streamText({ ...asking(url, said), onError: ({ error }) => (failed = error) });
    for await (const piece of result.textStream) got.text += piece;
    if (failed) throw failed;
    got.stop = await result.finishReason;
  },

  async tools(url, said, got) {
    const weather = tool({
      description: "The weather in a city.",
      inputSchema: z.object({ city: z.string() }),
      execute: async (input) => {
        got.calls.push(["weather", input]);
        return "Sunny.";
      },
    });
    const asked = { ...asking(url, said), tools: { weather }, stopWhen: stepCountIs(5) };
    take(await generateText(asked), got);
  },

  async structured(url, said, got) {
    const output = Output.object({ schema: z.object({ said: z.string() }) });
    const result = await generateText({ ...asking(url, said), output });
    take(result, got);
    got.value = result.output;
  },
});
