// A Socket.IO server with those events of Classworks' real-time API that a failover has to do with: joining the room of a
// token's device, events to that room, their history, and messages whose execution is written down before it is acknowledged.
// Rooms and history belong to one process, as in Classworks: what a client missed elsewhere is not here.
import { createServer } from "node:http";
import { Server } from "socket.io";
import { announce, execute, here, port, transports } from "./common.mjs";

// Events kept per device, and characters of an event's content: Classworks' own limits.
const HISTORY_MAX = 1000;
const CONTENT_MAX = 10240;

const http = createServer();
const io = new Server(http, { transports });
const histories = new Map();
let events = 0;

// Any token is one of a device; those that begin with "bad" are of none, those with "ro-" may only read.
const deviceOf = (token) => (typeof token === "string" && token && !token.startsWith("bad") ? `device-${token}` : null);

io.on("connection", (socket) => {
  socket.data.tokens = new Map();
  const { token, apptoken } = socket.handshake.query;
  if (token || apptoken) join(socket, token || apptoken);
  socket.on("join-token", (data) => join(socket, data?.token || data?.apptoken));
  socket.on("leave-token", (data) => leave(socket, data?.token || data?.apptoken));
  socket.on("leave-all", () => [...socket.data.tokens.keys()].forEach((joined) => leave(socket, joined)));
  socket.on("send-event", (data) => sendEvent(socket, data));
  socket.on("get-event-history", (data) => sendHistory(socket, data));
  socket.on("message", (data, acknowledge) => {
    // The transport is ended under the session, as a dying server does it; disconnect() would tell the client not to return.
    execute(data.id, () => acknowledge?.({ id: data.id, port: here() }), () => socket.conn.close(true));
  });
  socket.on("change-key", (data) => changeKey(socket, data));
  socket.on("push", (data, acknowledge) => {
    for (let number = 1; number <= data.n; number += 1) {
      toRooms(socket, "pushed", { number, of: data.n, port: here() });
    }
    acknowledge?.({ pushed: data.n });
  });
});

function join(socket, token) {
  const uuid = deviceOf(token);
  if (!uuid) {
    socket.emit("join-error", { by: "token", reason: "invalid_token" });
    return;
  }
  socket.join(uuid);
  socket.data.tokens.set(token, uuid);
  const userAgent = socket.handshake.headers["user-agent"] ?? null;
  const tokenInfo = { isReadOnly: token.startsWith("ro-"), deviceType: "test", deviceName: uuid, userAgent };
  socket.emit("joined", { by: "token", uuid, token, tokenInfo });
  io.to(uuid).emit("device-joined", { uuid, connections: io.sockets.adapter.rooms.get(uuid).size });
}

function leave(socket, token) {
  const uuid = socket.data.tokens.get(token);
  if (uuid) socket.leave(uuid);
  socket.data.tokens.delete(token);
}

function problemOf(socket, data) {
  if (typeof data !== "object" || data === null) return { reason: "invalid_data_format" };
  if (typeof data.type !== "string" || !data.type) return { reason: "invalid_event_type" };
  if (typeof (data.content ?? null) !== "object") return { reason: "content_must_be_object_or_null" };
  if (socket.data.tokens.size === 0) return { reason: "not_joined_any_device" };
  const readOnly = [...socket.data.tokens.keys()].every((token) => token.startsWith("ro-"));
  if (readOnly) return { reason: "readonly_token_cannot_send_events" };
  const tooLarge = JSON.stringify(data.content ?? null).length > CONTENT_MAX;
  return tooLarge ? { reason: "content_too_large", maxSize: CONTENT_MAX } : null;
}

function sendEvent(socket, data) {
  const problem = problemOf(socket, data);
  if (problem) {
    socket.emit("event-error", problem);
    return;
  }
  const event = makeEvent("event", data.content ?? null, socket.id, senderInfo());
  const uuids = [...socket.data.tokens.values()];
  for (const uuid of uuids) {
    keep(uuid, { ...event, type: data.type });
    socket.to(uuid).emit(data.type, event);
  }
  const { eventId, timestamp } = event;
  socket.emit("event-sent", {
    eventId, eventName: data.type, timestamp, targetDevices: uuids.length, senderInfo: event.senderInfo,
  });
}

function sendHistory(socket, data) {
  const { limit = 50, offset = 0 } = data ?? {};
  if (socket.data.tokens.size === 0) {
    socket.emit("event-history-error", { reason: "not_joined_any_device" });
    return;
  }
  const all = [...socket.data.tokens.values()].flatMap((uuid) => histories.get(uuid) ?? []);
  socket.emit("event-history", { events: all.slice(offset, offset + limit), total: all.length, limit, offset });
}

function changeKey(socket, data) {
  const content = { key: data.key, action: data.action ?? "upsert", updatedAt: new Date().toISOString() };
  const info = { appId: "realtime", deviceType: "server", deviceName: "realtime" };
  const event = makeEvent("kv", content, "realtime", info);
  for (const uuid of socket.data.tokens.values()) {
    keep(uuid, { ...event, type: "kv-key-changed" });
    io.to(uuid).emit("kv-key-changed", event);
  }
}

function makeEvent(prefix, content, senderId, info) {
  events += 1;
  return {
    eventId: `${prefix}-${here()}-${events}`, content, timestamp: new Date().toISOString(), senderId, senderInfo: info,
  };
}

const senderInfo = () => ({ appId: "app", deviceType: "test", deviceName: "test" });

function keep(uuid, event) {
  const history = histories.get(uuid) ?? [];
  history.push(event);
  histories.set(uuid, history.slice(-HISTORY_MAX));
}

// To the rooms a socket is in, itself included; to itself alone when it is in none.
function toRooms(socket, name, event) {
  const uuids = [...socket.data.tokens.values()];
  (uuids.length > 0 ? io.to(uuids) : socket).emit(name, event);
}

http.listen(port, "127.0.0.1", () => announce(http));
