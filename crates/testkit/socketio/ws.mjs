// A WebSocket server without Socket.IO: {id, text} is written to the journal and answered with {ack: id}.
import { WebSocketServer } from "ws";
import { announce, execute, port } from "./common.mjs";

const server = new WebSocketServer({ host: "127.0.0.1", port }, () => announce(server));

server.on("connection", (socket) => {
  socket.on("message", (data) => {
    const { id } = JSON.parse(data.toString());
    execute(id, () => socket.send(JSON.stringify({ ack: id })), () => socket.terminate());
  });
});
