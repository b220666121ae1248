// What cameras saw: a video that the browser plays, or one image after another.

class Camera {
  constructor(name) {
    this.name = name;
    this.view = make("div", { class: "view" });
    this.element = make("figure", {}, this.view, make("figcaption", {}, name));
  }

  /** Shows what an episode has of this camera: `{mp4: address}`, `{every, jpegs}` or `{why}`. */
  show(pictures, frames, fps) {
    this.drop();
    Object.assign(this, { frames, fps, frame: 0 });
    if (pictures?.mp4) this.showVideo(pictures.mp4);
    else if (pictures?.jpegs) this.showImages(pictures);
    else this.say(pictures?.why ?? "This episode has no pictures of this camera.");
  }

  drop() {
    if (this.video) {
      this.video.removeAttribute("src");
      this.video.load();
      if (this.video.dataset.own) URL.revokeObjectURL(this.video.dataset.own);
    }
    [this.video, this.images, this.wanted] = [null, null, null];
    this.view.replaceChildren();
  }

  say(words) {
    this.view.replaceChildren(make("p", {}, words));
  }

  shape(width, height) {
    if (width && height) this.view.style.aspectRatio = `${width} / ${height}`;
  }

  showVideo(address) {
    const video = make("video", { playsinline: "", preload: "auto", "aria-label": `Pictures of ${this.name}`, tabindex: "-1" });
    video.muted = true;
    if (address.startsWith("blob:")) video.dataset.own = address;
    video.addEventListener("loadedmetadata", () => this.shape(video.videoWidth, video.videoHeight));
    video.addEventListener("loadeddata", () => this.seek(this.frame));
    video.addEventListener("seeked", () => { if (this.wanted !== null) this.seek(this.wanted); });
    video.addEventListener("error", () => {
      if (this.video !== video) return;
      this.video = null;
      this.say("This browser can't play the video of this camera.");
    });
    video.src = address;
    this.video = video;
    this.view.replaceChildren(video);
  }

  showImages({ every, jpegs }) {
    const canvas = make("canvas", { class: "still", role: "img", "aria-label": `Pictures of ${this.name}` });
    this.images = { every, canvas, list: jpegs.map((jpeg) => Object.assign(new Image(), { src: `data:image/jpeg;base64,${jpeg}` })) };
    this.view.replaceChildren(canvas);
    this.paint(0);
  }

  paint(frame) {
    const { every, canvas, list } = this.images, image = list[Math.min(list.length - 1, Math.floor(frame / every))];
    if (!image) return;
    image.decode().then(() => {
      if (this.images?.canvas !== canvas || this.frame !== frame) return;
      [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
      this.shape(canvas.width, canvas.height);
      canvas.getContext("2d").drawImage(image, 0, 0);
    }, () => this.images?.canvas === canvas && this.say("An image of this camera can't be decoded."));
  }

  /** Shows this frame; while a video is on its way to another, it goes on to this one afterwards. */
  seek(frame) {
    this.frame = frame;
    if (this.images) this.paint(frame);
    if (!this.video) return;
    this.wanted = this.video.seeking ? frame : null;
    // In the middle of a frame no rounding shows its neighbour.
    const time = (frame + 0.5) / this.fps;
    if (!this.video.seeking && Math.abs(this.video.currentTime - time) > 0.25 / this.fps) this.video.currentTime = time;
  }

  play(rate) {
    if (!this.video) return;
    this.video.playbackRate = rate;
    // A video that may not play is moved frame by frame.
    this.video.play().catch(() => {});
  }

  pause() {
    this.video?.pause();
  }

  /** The time of a video that runs, else null. */
  clock() {
    const video = this.video;
    return video && !video.paused && !video.seeking && video.readyState > 2 ? video.currentTime : null;
  }

  /** Keeps step with the clock while time goes on. */
  follow(time, frame) {
    const video = this.video;
    if (video && !video.paused) {
      if (!video.seeking && !video.ended && Math.abs(video.currentTime - time) > 0.12) video.currentTime = time;
    } else if (frame !== this.frame) this.seek(frame);
  }
}
