// A browser starts no worker from a file. There the search works in a hidden frame, as its theme expects of a script
// of this name, which it would otherwise load from elsewhere.
if (location.protocol === "file:") {
  const pass = (target, data, deliver) =>
    setTimeout(() => deliver(new target.MessageEvent("message", { data: target.structuredClone(data) })));
  window.Worker = class {
    constructor(url) {
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.frame.reply = (data) => pass(window, data, (event) => this.onmessage?.(event));
      this.frame.srcdoc =
        `<script>postMessage = (data) => frameElement.reply(data)</script><script src="${url}"></script>`;
      this.ready = new Promise((resolve) => (this.frame.onload = resolve));
      document.body.append(this.frame);
    }
    postMessage(data) {
      const inside = this.frame.contentWindow;
      this.ready.then(() => pass(inside, data, (event) => inside.dispatchEvent(event)));
    }
    terminate() {
      this.frame.remove();
    }
  };
}
