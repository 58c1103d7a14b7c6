// What both servers share: the arguments, and the journal of executed messages.
import { appendFileSync } from "node:fs";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    port: { type: "string", default: "0" },
    journal: { type: "string" },
    transports: { type: "string", default: "both" },
    "ack-delay": { type: "string", default: "0" },
    "drop-ack": { type: "string", default: "0" },
  },
});

export const port = Number(values.port);
export const transports = values.transports === "both" ? ["polling", "websocket"] : [values.transports];
const ackDelayMs = Number(values["ack-delay"]);
const dropAck = Number(values["drop-ack"]);

let executed = 0;
let listening = port;

// Says where it listens, in the line the test waits for.
export function announce(server) {
  listening = server.address().port;
  process.stdout.write(`listening ${listening}\n`);
}

// Executes a message: one line of the journal, in the file before anything is acknowledged. The file is opened for appending,
// so that servers of several processes can write to it, and each line is one write.
export function execute(id, acknowledge, close) {
  appendFileSync(values.journal, `${listening} ${id}\n`);
  executed += 1;
  if (dropAck > 0 && executed % dropAck === 0) {
    close();
  } else if (ackDelayMs > 0) {
    setTimeout(acknowledge, ackDelayMs);
  } else {
    acknowledge();
  }
}

export const here = () => listening;
