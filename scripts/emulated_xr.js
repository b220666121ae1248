// Gives a page an emulated headset or phone, on top of iwer (Meta's emulator of WebXR), for scripts/daemon_page_hands.py. Unlike
// iwer alone it loses its tracking, shows pictures at 72 Hz and some of them late, and has a phone with buttons over the camera's image.
// `globalThis.EMULATED` is "headset" or "phone".

(() => {
  const { XRDevice, metaQuest3 } = globalThis.IWER;
  const phone = {
    name: "phone", controllerConfig: undefined, supportedSessionModes: ["inline", "immersive-ar"], supportedFeatures: ["viewer", "local", "local-floor", "dom-overlay"], supportedFrameRates: [60],
    isSystemKeyboardSupported: false, internalNominalFrameRate: 60, environmentBlendModes: { "immersive-ar": "alpha-blend" }, interactionMode: "screen-space", userAgent: navigator.userAgent,
  };
  const isPhone = globalThis.EMULATED === "phone", device = new XRDevice(isPhone ? phone : metaQuest3, { stereoEnabled: !isPhone });
  device.installRuntime({ forceInstall: true });
  const xr = globalThis.xr = { device, lost: "", late_ms: 0, pictures: 0 };
  const { getPose, getViewerPose } = XRFrame.prototype;
  const asLost = (pose) => {
    if (xr.lost === "null") return null;
    // iwer says of every pose that it is emulated.
    Object.defineProperty(pose, "emulatedPosition", { value: xr.lost === "emulated" });
    return pose;
  };
  let isOfViewer = false;
  XRFrame.prototype.getPose = function of(...spaces) {
    const pose = getPose.apply(this, spaces);
    return isOfViewer ? pose : asLost(pose);
  };
  XRFrame.prototype.getViewerPose = function of(space) {
    isOfViewer = true;
    try {
      return asLost(getViewerPose.call(this, space));
    } finally {
      isOfViewer = false;
    }
  };
  if (isPhone) Object.defineProperty(XRSession.prototype, "domOverlayState", { get: () => ({ type: "screen" }) });
  globalThis.requestAnimationFrame = (draw) => {
    xr.pictures += 1;
    const late_ms = xr.late_ms;
    xr.late_ms = 0;
    // Every thirtieth picture is missed.
    return setTimeout(() => draw(performance.now()), (xr.pictures % 30 ? 1000 / 72 : 2000 / 72) + late_ms);
  };
  globalThis.cancelAnimationFrame = clearTimeout;

  const part = (name) => (name === "viewer" ? device : device.controllers[name]);
  /** Turns a hand or the head by degrees about the vertical, then up. */
  xr.point = (name, turn, rise) => {
    const [a, b] = [turn, rise].map((degrees) => (degrees * Math.PI) / 360), q = part(name).quaternion;
    [q.x, q.y, q.z, q.w] = [Math.cos(a) * Math.sin(b), Math.sin(a) * Math.cos(b), -Math.sin(a) * Math.sin(b), Math.cos(a) * Math.cos(b)];
  };
  /** Moves a hand or the head: metres to its right, up, and back, within a time. */
  xr.glide = (name, way, ms) => new Promise((done) => {
    const at = part(name).position, from = [at.x, at.y, at.z], begun = performance.now();
    const timer = setInterval(() => {
      const share = Math.min(1, (performance.now() - begun) / ms);
      [at.x, at.y, at.z] = from.map((value, k) => value + way[k] * share);
      if (share < 1) return;
      clearInterval(timer);
      done();
    }, 5);
  });
  xr.press = (name, id, value) => device.controllers[name].updateButtonValue(id, value);
})();
