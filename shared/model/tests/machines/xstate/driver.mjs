// Runs machines in XState: one job per line of stdin, one answer per line of stdout.
//
// A job is { definition, script }: a machine in Windlass's own words, and what happens to it. The answer
// says for the start and for each line of the script what the machine was afterwards.

import { createInterface } from "node:readline";
import { SimulatedClock, assign, createActor, createMachine, fromCallback, raise } from "xstate";

// As many as Windlass allows.
const MICROSTEPS_MAX = 1000;
const EXPRESSION = /^\$\{\{(.*)\}\}$/s;

// The generator writes only what means the same in both languages, but for `and`, `or` and `not`.
const compiled = new Map();

function compile(text) {
  if (!compiled.has(text)) compiled.set(text, program(text));
  return compiled.get(text);
}

function program(text) {
  const inner = text.match(EXPRESSION)?.[1] ?? text;
  const script = inner.replace(/\band\b/g, "&&").replace(/\bor\b/g, "||").replace(/\bnot\b/g, "!");
  return new Function("context", "event", "output", "error", `return (${script});`);
}

function template(value) {
  if (typeof value === "string" && EXPRESSION.test(value)) {
    const program = compile(value);
    return ({ context, event }) => program(context, event, event.output, event.error);
  }
  if (Array.isArray(value)) {
    const items = value.map(template);
    return (scene) => items.map((item) => item(scene));
  }
  if (value !== null && typeof value === "object") {
    const members = Object.entries(value).map(([key, inner]) => [key, template(inner)]);
    return (scene) => Object.fromEntries(members.map(([key, inner]) => [key, inner(scene)]));
  }
  return () => value;
}

const list = (value) => (value === undefined ? [] : Array.isArray(value) ? value : [value]);

function translate(definition, log) {
  const delays = {};

  const action = (written) => {
    if (written.assign) {
      const assigned = Object.entries(written.assign).map(([key, value]) => [key, template(value)]);
      return assign(Object.fromEntries(assigned));
    }
    if (written.emit) {
      const data = template(written.emit.data ?? {});
      return ({ context, event }) => log.push([written.emit.type, data({ context, event })]);
    }
    if (typeof written.raise === "string") return raise({ type: written.raise });
    const payload = template(written.raise.data ?? {});
    return raise((scene) => ({ ...payload(scene), type: written.raise.type }));
  };

  const target = (text, isRoot) => {
    if (text.startsWith("#")) return `#m.${text.slice(1)}`;
    return isRoot && !text.startsWith(".") ? `.${text}` : text;
  };

  const transition = (written, isRoot) => {
    const map = typeof written === "string" ? { target: written } : written;
    const result = { reenter: map.reenter ?? false, actions: list(map.actions).map(action) };
    if (map.target !== undefined) result.target = target(map.target, isRoot);
    const guard = map.guard === undefined ? undefined : compile(map.guard);
    const kinds = map.match;
    if (guard || kinds) {
      result.guard = ({ context, event }) =>
        (!kinds || kinds.some((kind) => kind === "*" || kind === event.error.type)) &&
        (!guard || Boolean(guard(context, event, event.output, event.error)));
    }
    return result;
  };

  const state = (written, path) => {
    const isRoot = path.length === 0;
    if (written.type === "history") {
      return { type: "history", history: written.history ?? "shallow", target: written.target };
    }
    const several = (value) => list(value).map((one) => transition(one, isRoot));
    const result = { entry: list(written.entry).map(action), exit: list(written.exit).map(action) };
    if (written.type === "parallel" || written.type === "final") result.type = written.type;
    if (written.initial) result.initial = written.initial;
    if (written.states) {
      const children = Object.entries(written.states);
      result.states = Object.fromEntries(children.map(([key, inner]) => [key, state(inner, [...path, key])]));
    }
    if (written.on) {
      result.on = Object.fromEntries(Object.entries(written.on).map(([name, inner]) => [name, several(inner)]));
    }
    if (written.always) result.always = several(written.always);
    if (written.on_done) result.onDone = several(written.on_done);
    if (written.after) {
      for (const delay of Object.keys(written.after)) delays[delay] = parseInt(delay, 10) * 1000;
      const after = Object.entries(written.after);
      result.after = Object.fromEntries(after.map(([delay, inner]) => [delay, several(inner)]));
    }
    if (written.output !== undefined && written.type === "final") result.output = template(written.output);
    result.invoke = list(written.invoke).map((invoked) => ({
      id: invoked.id,
      src: fromCallback(() => {}),
      onDone: several(invoked.on_done),
      onError: several(invoked.on_error),
    }));
    return result;
  };

  const { type: _, ...root } = definition;
  const config = {
    ...state(root, []),
    id: "m",
    context: definition.context ?? {},
    output: ({ event }) => event.output ?? null,
    options: { maxIterations: MICROSTEPS_MAX },
  };
  return createMachine(config, { delays });
}

// XState looks at `always` in the order in which states were entered, SCXML and Windlass in document order.
// That shows when states that stand in another order than they were entered in have different ones.
function isOrderUnclear(snapshot) {
  const leaves = snapshot._nodes.filter((node) => node.type === "atomic" || node.type === "final");
  const isSorted = leaves.every((node, at) => at === 0 || leaves[at - 1].order < node.order);
  if (isSorted) return false;
  const withAlways = (node) => (node ? [...(node.always ? [node.id] : []), ...withAlways(node.parent)] : []);
  return new Set(leaves.map((leaf) => withAlways(leaf).join()).filter((ids) => ids !== "")).size > 1;
}

function run({ definition, script }) {
  const log = [];
  const machine = translate(definition, log);
  const clock = new SimulatedClock();
  const answers = [];
  let failure = null;
  let last = null;
  let isUnclear = false;
  const inspect = (found) => {
    if (found.type !== "@xstate.microstep") return;
    const isEventless = found._transitions.some((transition) => transition.eventType === "");
    if (isEventless && last && isOrderUnclear(last)) isUnclear = true;
    last = found.snapshot;
  };
  const actor = createActor(machine, { clock, inspect });
  actor.subscribe({ error: (error) => (failure = error) });

  const answer = () => {
    const snapshot = actor.getSnapshot();
    last = snapshot;
    const nodes = [...snapshot._nodes].sort((one, other) => one.order - other.order);
    answers.push({
      configuration: nodes.map((node) => node.path.join(".")),
      actions: log.splice(0),
      context: snapshot.context,
      status: snapshot.status,
      output: snapshot.output ?? null,
      invoked: snapshot.status === "active" ? Object.keys(snapshot.children).sort() : [],
      error: failure ? String(failure.message ?? failure) : null,
      is_order_unclear: isUnclear,
    });
  };

  actor.start();
  answer();
  for (const line of script) {
    if (line.send) actor.send({ ...line.payload, type: line.send });
    else if (line.advance_s) clock.increment(line.advance_s * 1000);
    else if (line.done) actor.send({ type: `xstate.done.actor.${line.done}`, output: line.output });
    else if (line.failed) {
      const error = { type: line.kind, message: "it broke", details: null };
      actor.send({ type: `xstate.error.actor.${line.failed}`, error });
    }
    answer();
  }
  actor.stop();
  return answers;
}

console.warn = () => {};
for await (const line of createInterface({ input: process.stdin })) {
  const job = JSON.parse(line);
  let answer;
  try {
    answer = { answers: run(job) };
  } catch (error) {
    answer = { broken: String(error.stack ?? error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
