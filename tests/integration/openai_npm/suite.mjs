// The official OpenAI client against one endpoint. Prints a JSON line a case: what the client's user sees of it. What must hold of any endpoint is asserted here;
// openai_npm_test.py runs it against goad-device and against the llama-server behind it, and compares.
//
//   node suite.mjs BASE_URL MODEL   with QUESTION, OWN_MODEL, SLOT_URLS (of the llama-servers behind it) and KEY (empty = none is asked for) in the environment;
//                                   RETRIES that the client may make after a lost connection and the like; ONLY = one case
import assert from 'node:assert/strict';
import OpenAI from 'openai';

const [baseURL, model] = process.argv.slice(2);
const { QUESTION: question, SLOT_URLS = '' } = process.env;
const client = new OpenAI({ baseURL, apiKey: process.env.KEY || 'none', maxRetries: Number(process.env.RETRIES), timeout: 60000 });
const user = (content) => [{ role: 'user', content }];
const sure = { model, temperature: 0, max_tokens: 8 };
const where = {
  type: 'function',
  function: { name: 'where', description: 'where somebody is',
    parameters: { type: 'object', properties: { person: { type: 'string', enum: ['Anna', 'Clara'] } }, required: ['person'] } },
};
const places = { type: 'json_schema', json_schema: { name: 'place', strict: true, schema: {
  type: 'object', properties: { place: { enum: ['park', 'kitchen'] } }, required: ['place'], additionalProperties: false } } };
// As many tokens as the models hold, whatever the model would like to say.
const long = { model, temperature: 0, max_tokens: 380, messages: user(question), response_format: { type: 'json_schema', json_schema: { name: 'list', schema: {
  type: 'array', minItems: 500, maxItems: 500, items: { enum: ['bedroom', 'cellar', 'garden', 'kitchen'] } } } } };

const all = async (stream) => {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
};
const joined = (chunks, of) => chunks.map((chunk) => (chunk.choices[0] ? of(chunk.choices[0]) ?? '' : '')).join('');
// Of a stream: how often a server cuts is its own affair.
const shape = (chunks) => ({ first: chunks[0], some: chunks.find((c) => c.choices[0]?.delta?.content || c.choices[0]?.text || c.choices[0]?.delta?.tool_calls),
  last: chunks.findLast((c) => c.choices.length > 0), usage: chunks.find((c) => c.usage) });
const failure = async (promise) => {
  try {
    await promise;
  } catch (error) {
    return { class: error.constructor.name, status: error.status, type: error.type, code: error.code, param: error.param, message: error.message };
  }
  return { class: 'none' };
};
const slots = async () => {
  let busy = 0;
  for (const url of SLOT_URLS.split(' ')) busy += (await (await fetch(`${url}/slots`)).json()).filter((slot) => slot.is_processing).length;
  return busy;
};
const slotsFreeWithin = async (milliseconds) => {
  const begin = performance.now();
  while (await slots()) {
    assert(performance.now() - begin < milliseconds, 'a slot is still busy');
    await new Promise((done) => setTimeout(done, 5));
  }
  return performance.now() - begin;
};

const cases = {
  async chat() {
    return client.chat.completions.create({ ...sure, messages: user(question) });
  },
  async chat_streamed() {
    const chunks = await all(await client.chat.completions.create({ ...sure, messages: user(question), stream: true }));
    const whole = await client.chat.completions.create({ ...sure, messages: user(question) });
    assert.equal(joined(chunks, (c) => c.delta.content), whole.choices[0].message.content);
    assert.equal(chunks[0].choices[0].delta.role, 'assistant');
    assert(chunks.every((chunk) => !chunk.usage), 'usage without being asked');
    return shape(chunks);
  },
  async chat_streamed_usage() {
    const chunks = await all(await client.chat.completions.create({ ...sure, messages: user(question), stream: true, stream_options: { include_usage: true } }));
    assert.deepEqual(chunks.at(-1).choices, []);
    assert.equal(chunks.at(-1).usage.total_tokens, chunks.at(-1).usage.prompt_tokens + chunks.at(-1).usage.completion_tokens);
    return shape(chunks);
  },
  async completion() {
    return client.completions.create({ ...sure, prompt: question });
  },
  async completion_of_a_list() {
    return client.completions.create({ ...sure, prompt: [question] });
  },
  async completion_streamed() {
    const chunks = await all(await client.completions.create({ ...sure, prompt: question, stream: true, stream_options: { include_usage: true } }));
    const whole = await client.completions.create({ ...sure, prompt: question });
    assert.equal(joined(chunks, (c) => c.text), whole.choices[0].text);
    return shape(chunks);
  },
  async length() {
    const answer = await client.chat.completions.create({ ...sure, messages: user(question), max_tokens: 1, stop: null, seed: 7, top_p: 0.9, user: 'somebody' });
    assert.equal(answer.choices[0].finish_reason, 'length');
    return answer;
  },
  async stop() {
    const answer = await client.chat.completions.create({ ...long, max_tokens: 100, stop: ['"'] });
    assert(!answer.choices[0].message.content.includes('"'));
    return answer;
  },
  async content_parts() {
    return client.chat.completions.create({ ...sure, messages: [{ role: 'system', content: 'Be brief.' }, { role: 'user', content: [{ type: 'text', text: question }] }] });
  },
  async logprobs() {
    return client.chat.completions.create({ ...sure, messages: user(question), logprobs: true, top_logprobs: 3 });
  },
  async logprobs_streamed() {
    const chunks = await all(await client.chat.completions.create({ ...sure, messages: user(question), logprobs: true, top_logprobs: 2, stream: true }));
    return shape(chunks);
  },
  async completion_logprobs() {
    return client.completions.create({ ...sure, prompt: question, logprobs: 2 });
  },
  async tools() {
    const ask = { model, temperature: 0, max_tokens: 300, tools: [where], parallel_tool_calls: false };
    const messages = user('Where is Anna?');
    const first = await client.chat.completions.create({ ...ask, messages, tool_choice: 'required' });
    const [call] = first.choices[0].message.tool_calls;
    assert.equal(call.function.name, 'where');
    assert(['Anna', 'Clara'].includes(JSON.parse(call.function.arguments).person));
    const second = await client.chat.completions.create(
        { ...ask, max_tokens: 8, tool_choice: 'none', messages: [...messages, first.choices[0].message, { role: 'tool', tool_call_id: call.id, content: 'Anna is in the park.' }] });
    return { first, second };
  },
  async tools_streamed() {
    const chunks = await all(await client.chat.completions.create({ model, temperature: 0, max_tokens: 300, tools: [where], parallel_tool_calls: false,
      messages: user('Where is Anna?'), tool_choice: 'required', stream: true }));
    const parts = chunks.flatMap((chunk) => chunk.choices[0]?.delta.tool_calls ?? []);
    assert.equal(parts.map((part) => part.function?.name ?? '').join(''), 'where');
    JSON.parse(parts.map((part) => part.function?.arguments ?? '').join(''));
    return shape(chunks);
  },
  async run_tools() {
    const asked = [];
    const runner = client.chat.completions.runTools({ model, temperature: 0, max_tokens: 300, messages: user('Where is Anna?'), tool_choice: 'required',
      parallel_tool_calls: false, tools: [{ ...where, function: { ...where.function, parse: JSON.parse, function: (of) => {
        asked.push(of.person);
        return `${of.person} is in the park.`;
      } } }] }, { maxChatCompletions: 2 });
    await runner.done();
    assert.equal(asked.length, 2);
    return { roles: runner.messages.map((message) => message.role), usage: Object.keys(await runner.totalUsage()) };
  },
  async run_tools_streamed() {
    const asked = [];
    const runner = client.chat.completions.runTools({ model, temperature: 0, max_tokens: 300, stream: true, messages: user('Where is Anna?'), tool_choice: 'required',
      parallel_tool_calls: false, tools: [{ ...where, function: { ...where.function, parse: JSON.parse, function: (of) => asked.push(of.person) && 'in the park' } }] },
    { maxChatCompletions: 1 });
    await runner.done();
    assert.equal(asked.length, 1);
    return { roles: runner.messages.map((message) => message.role) };
  },
  async json_schema() {
    const answer = await client.chat.completions.create({ model, temperature: 0, max_tokens: 100, messages: user('Where is Anna?'), response_format: places });
    assert(['park', 'kitchen'].includes(JSON.parse(answer.choices[0].message.content).place));
    return answer;
  },
  async parsed() {
    const answer = await client.chat.completions.parse({ model, temperature: 0, max_tokens: 100, messages: user('Where is Anna?'), response_format: places });
    return answer.choices[0].message;
  },
  async final_content() {
    const stream = client.chat.completions.stream({ ...sure, messages: user(question), stream_options: { include_usage: true } });
    const content = await stream.finalContent();
    const completion = await stream.finalChatCompletion();
    assert.equal(completion.choices[0].message.content, content);
    return { content, completion, usage: await stream.totalUsage() };
  },
  async models() {
    const list = await all(await client.models.list());
    assert(list.every((entry) => typeof entry.id === 'string'));
    return { one: list.find((entry) => entry.id === process.env.OWN_MODEL) };
  },
  async model() {
    return client.models.retrieve(process.env.OWN_MODEL);
  },
  async no_model() {
    return failure(client.models.retrieve('nobody'));
  },
  async bad_messages() {
    return failure(client.chat.completions.create({ model, messages: 'none' }));
  },
  async no_messages() {
    return failure(client.chat.completions.create({ model }));
  },
  async bad_temperature() {
    return failure(client.chat.completions.create({ ...sure, messages: user(question), temperature: 'hot' }));
  },
  async bad_schema() {
    return failure(client.chat.completions.create({ ...sure, messages: user(question), response_format: { type: 'nonsense' } }));
  },
  async bad_streamed() {
    return failure((async () => all(await client.chat.completions.create({ ...sure, messages: user(question), stream: true, response_format: { type: 'nonsense' } })))());
  },
  async too_long() {
    return failure(client.chat.completions.create({ ...sure, messages: user('why? '.repeat(5000)) }));
  },
  async unknown_url() {
    return failure(client.get('/nonsense'));
  },
  async embeddings() {
    return failure(client.embeddings.create({ model, input: 'hello' }));
  },
  async two_answers() {
    return failure(client.chat.completions.create({ ...sure, messages: user(question), n: 2 }));
  },
  async abort_in_mid_stream() {
    const stream = await client.chat.completions.create({ ...long, stream: true });
    let pieces = 0;
    for await (const chunk of stream) {
      if (chunk.choices[0]?.delta.content && ++pieces === 2) break;  // the client aborts
    }
    const free = await slotsFreeWithin(2000);
    console.error(`  abort in mid-stream: slots free after ${free.toFixed(0)} ms`);
    return { pieces };
  },
  async abort_while_nothing_is_shown() {
    const controller = new AbortController();
    const asked = client.chat.completions.create(long, { signal: controller.signal });
    const begin = performance.now();
    while (!(await slots())) {
      assert(performance.now() - begin < 10000, 'never began');
      await new Promise((done) => setTimeout(done, 2));
    }
    controller.abort();
    const said = await failure(asked);
    const free = await slotsFreeWithin(2000);
    console.error(`  abort while nothing is shown: slots free after ${free.toFixed(0)} ms`);
    return said;
  },
  async timeout() {
    const said = await failure(client.chat.completions.create(long, { timeout: 5 }));
    await slotsFreeWithin(2000);
    return said;
  },
  async sixty_four_at_once() {
    const answers = await Promise.all(Array.from({ length: 64 }, (_, k) => k % 2
      ? client.chat.completions.create({ ...sure, messages: user(question) }).then((answer) => answer.choices[0].message.content)
      : client.chat.completions.create({ ...sure, messages: user(question), stream: true }).then(all).then((chunks) => joined(chunks, (c) => c.delta.content))));
    assert.equal(answers.length, 64);
    assert(answers.every((answer) => answer.length > 0), JSON.stringify(answers));
    return { answers: answers.length, different: new Set(answers).size > 2 };
  },
  async wrong_key() {
    if (!process.env.KEY) return {};
    return failure(new OpenAI({ baseURL, apiKey: 'wrong', maxRetries: 0 }).chat.completions.create({ ...sure, messages: user(question) }));
  },
};

let failed = 0;
for (const [name, run] of Object.entries(cases)) {
  if (process.env.ONLY && process.env.ONLY !== name) continue;
  try {
    console.log(JSON.stringify({ name, seen: await run() }));
  } catch (error) {
    failed += 1;
    console.log(JSON.stringify({ name, failed: String(error.stack ?? error).slice(0, 1500) }));
  }
}
process.exitCode = failed ? 1 : 0;
