// Reads machines of XState in JSON, and prints what XState says about them, as one JSON object by the id of the machine:
//   cells:  state -> event -> "agrees" or "refuses" (every guard) -> the next state, or null if the event is not taken
//   paths:  every simple path and every shortest path from the initial state: a list of {event, agrees, state}
// Usage: node xstate_paths.mjs FOLDER_OF_XSTATE FOLDER_OF_MACHINES
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [, , installed, folder] = process.argv;
const require = createRequire(join(installed, "x.js"));
const { createActor, createMachine, getNextSnapshot } = require("xstate");
const { getShortestPaths, getSimplePaths } = require("xstate/graph");

const found = {};
for (const file of readdirSync(folder)) {
  const config = JSON.parse(readFileSync(join(folder, file), "utf8"));
  found[config.id] = read(config);
}
console.log(JSON.stringify(found));

function read(config) {
  const transitions = Object.values(config.states).flatMap((state) => Object.values(state.on ?? {}).flat());
  const guards = new Set(transitions.map((transition) => transition.guard).filter(Boolean));
  const agrees = ({ event }) => event.agrees;
  const machine = createMachine(config).provide({
    guards: Object.fromEntries([...guards].map((name) => [name, agrees])),
  });
  createActor(machine).start().stop(); // throws if the machine is not one of XState
  const types = [...new Set(Object.values(config.states).flatMap((state) => Object.keys(state.on ?? {})))];
  const events = types.flatMap((type) => [true, false].map((answer) => ({ type, agrees: answer })));
  return {
    cells: Object.fromEntries(Object.keys(config.states).map((state) => [state, cells(machine, state, types)])),
    paths: [...getSimplePaths(machine, { events }), ...getShortestPaths(machine, { events })].map(steps),
  };
}

function cells(machine, state, types) {
  const snapshot = machine.resolveState({ value: state });
  const next = (type, answer) => {
    const event = { type, agrees: answer };
    return snapshot.status === "active" && snapshot.can(event) ? getNextSnapshot(machine, snapshot, event).value : null;
  };
  return Object.fromEntries(types.map((type) => [type, { agrees: next(type, true), refuses: next(type, false) }]));
}

function steps(path) {
  return path.steps
    .filter((step) => step.event.type !== "xstate.init")
    .map((step) => ({ event: step.event.type, agrees: step.event.agrees, state: step.state.value }));
}
