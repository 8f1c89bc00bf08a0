// @anthropic-ai/sdk: `baseURL`, or $ANTHROPIC_BASE_URL.

import Anthropic from "@anthropic-ai/sdk";
import { betaZodTool } from "@anthropic-ai/sdk/helpers/beta/zod";
import { zodOutputFormat } from "@anthropic-ai/sdk/helpers/zod";
import { z } from "zod";
import { answerTasks } from "./tasks.mjs";

const made = new Map();

function client(url) {
  if (!made.has(url)) made.set(url, new Anthropic({ apiKey: "test", baseURL: url }));
  return made.get(url);
}

function asking(said) {
  const messages = [{ role: "user", content: said }];
  return { model: "claude-sonnet-5-5", max_tokens: 256, messages };
}

function take(message, got) {
  got.text = message.content.map((block) => block.text ?? "").join("");
  got.stop = message.stop_reason;
}

await answerTasks({
  async chat(url, said, got) {
    take(await client(url).messages.create(asking(said)), got);
  },

  async stream(url, said, got) {
    const stream = client(url).messages.stream(asking(said));
    stream.on("text", (piece) => (got.text += piece));
    got.stop = (await stream.finalMessage()).stop_reason;
  },

  async tools(url, said, got) {
    const weather = betaZodTool({
      name: "weather",
      description: "The weather in a city.",
      inputSchema: z.object({ city: z.string() }),
      run: (input) => {
        got.calls.push(["weather", input]);
        return "Sunny.";
      },
    });
    const asked = { ...asking(said), tools: [weather], max_iterations: 5 };
    take(await client(url).beta.messages.toolRunner(asked), got);
  },

  async structured(url, said, got) {
    const format = zodOutputFormat(z.object({ said: z.string() }));
    const message = await client(url).messages.parse({ ...asking(said), output_config: { format } });
    take(message, got);
    got.value = message.parsed_output;
  },
});
