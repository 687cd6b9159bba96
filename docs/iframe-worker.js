// A browser starts no worker from a file. There the search works in a hidden frame, as its theme expects of a script
// of this name, which it would otherwise load from elsewhere.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(url) {
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.frame.reply = (data) => this.onmessage?.(new MessageEvent("message", { data }));
      this.frame.srcdoc =
        `<script>postMessage = (data) => frameElement.reply(data)</script><script src="${url}"></script>`;
      this.ready = new Promise((resolve) => (this.frame.onload = resolve));
      document.body.append(this.frame);
    }
    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
    }
    terminate() {
      this.frame.remove();
    }
  };
}
