// A WebSocket that says who it is, and comes back by itself.

const SOONEST_MS = 300, LATEST_MS = 5000;

export const addressOf = (path) => `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/v1/${path}`;

const nothing = () => {};

/**
 * Connects with `/api/v1/PATH` until `signal` ends it, in a page or in a worker. `hello()` is the first message, beside the token. `hear`
 * gets each message: an object, or an ArrayBuffer. `up` is called at each welcome, `down` when that is over, and `stranger` where the
 * token is not good. Where nothing comes for `silence_ms`, the line is taken to be dead.
 */
export function connect(path, token, { hello = () => ({}), hear, up = nothing, down = nothing, stranger = nothing, silence_ms = 0 }, signal) {
  let socket = null, wait = SOONEST_MS, timer = 0, watch = 0, isUp = false;

  const heard = () => {
    if (!silence_ms) return;
    clearTimeout(watch);
    watch = setTimeout(() => end(socket), silence_ms);
  };

  function open() {
    clearTimeout(timer);
    if (signal.aborted) return;
    const mine = socket = new WebSocket(addressOf(path));
    mine.binaryType = "arraybuffer";
    mine.onopen = () => {
      mine.send(JSON.stringify({ token, ...hello() }));
      heard();
    };
    mine.onclose = () => end(mine);
    mine.onmessage = ({ data }) => {
      if (mine !== socket) return;
      heard();
      if (typeof data !== "string") return hear(data);
      const message = JSON.parse(data);
      if (message.type === "welcome") {
        isUp = true;
        wait = SOONEST_MS;
        up(message);
      } else if (message.type === "error") {
        if (message.status === 401) stranger(message.error);
      } else hear(message);
    };
    heard();
  }

  /** Forgets a socket that has ended or is taken to be dead, and tries again after a while. */
  function end(mine) {
    if (mine !== socket || !mine) return;
    clearTimeout(watch);
    socket = null;
    mine.onclose = mine.onmessage = mine.onopen = null;
    mine.close();
    if (isUp) down();
    isUp = false;
    if (signal.aborted) return;
    timer = setTimeout(open, wait * (0.8 + 0.4 * Math.random()));
    wait = Math.min(wait * 2, LATEST_MS);
  }

  const again = () => {
    wait = SOONEST_MS;
    if (!socket) open();
  };
  addEventListener("online", again, { signal });
  globalThis.document?.addEventListener("visibilitychange", () => document.hidden || again(), { signal });
  signal.addEventListener("abort", () => {
    clearTimeout(timer);
    end(socket);
  }, { once: true });
  open();

  return {
    /** Says whether it could be sent. */
    send(message) {
      if (socket?.readyState !== WebSocket.OPEN) return false;
      socket.send(JSON.stringify(message));
      return true;
    },
  };
}
