// The socket of commands, in a worker: a page that draws for long would else lose the lease, whose dead-man is 300 ms.
//
// The page says `{ open, token }`, then `{ send }` for each message, or `{}` that it is there. It is told `{ heard }` for each message
// of the daemon, and `{ ended }` with the reason at the end.

const ALIVE_MS = 100;
/** A page that said nothing for so long hangs: its lease may end. */
const PATIENCE_MS = 1500;

let socket = null, pageHeard = 0, sent = 0, hasLease = false;

const now = () => performance.now();

function send(message) {
  if (socket?.readyState !== WebSocket.OPEN) return;
  socket.send(JSON.stringify(message));
  sent = now();
}

function open(address, token) {
  socket = new WebSocket(address);
  socket.onopen = () => send({ token });
  socket.onclose = () => postMessage({ ended: "Control was lost with the connection." });
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.type === "lease") hasLease = true;
    if (message.type === "error") postMessage({ ended: message.error });
    else postMessage({ heard: message });
  };
}

setInterval(() => {
  if (hasLease && now() - sent > ALIVE_MS - 10 && now() - pageHeard < PATIENCE_MS) send({ type: "alive" });
}, ALIVE_MS / 4);

onmessage = ({ data }) => {
  pageHeard = now();
  if (data.open) open(data.open, data.token);
  if (data.send) send(data.send);
};
