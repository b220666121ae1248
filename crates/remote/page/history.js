// The last two minutes of what was measured, for the plots. It goes on while no plot is shown.

const ROWS = 3600;

const columns = new Map();
const times = new Float64Array(ROWS);
let rows = 0;

/** The column of a name, made when it is first asked for. */
function column(name) {
  if (!columns.has(name)) columns.set(name, new Float32Array(ROWS).fill(NaN));
  return columns.get(name);
}

/** Keeps a state. Times are the daemon's. */
export function record(state) {
  const at = rows % ROWS;
  times[at] = state.time_s;
  for (const values of columns.values()) values[at] = NaN;
  for (const kind of ["position", "goal", "effort", "temperature_c"]) state[kind].forEach((value, index) => { column(`${kind}/${index}`)[at] = value ?? NaN; });
  if (state.loop) for (const kind of ["rate_hz", "late_ms", "inference_ms", "queued"]) column(`loop/${kind}`)[at] = state.loop[kind];
  rows += 1;
}

/** The newest time, or nothing before the first. */
export const newest = () => (rows ? times[(rows - 1) % ROWS] : null);

/** Calls `visit(time, value)` for each row of the last `seconds`, oldest first. A value that is not known is NaN. */
export function each(name, seconds, visit) {
  const values = column(name), end = newest();
  let first = Math.max(0, rows - ROWS);
  // The rows are in order of time: look for the first one that is seen.
  for (let low = first, high = rows; low < high;) {
    const middle = (low + high) >> 1;
    if (times[middle % ROWS] < end - seconds) first = low = middle + 1;
    else high = middle;
  }
  for (let row = Math.max(first - 1, rows - ROWS, 0); row < rows; row += 1) visit(times[row % ROWS], values[row % ROWS]);
}
