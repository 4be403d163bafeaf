// A page of a folder (file:) may start no worker, which the search runs in: a hidden frame takes its place.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    #waiting = []
    #inside = null

    constructor(address) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      frame.srcdoc = "<!doctype html>"
      frame.addEventListener("load", () => this.#start(frame.contentWindow, address), { once: true })
      document.body.append(frame)
    }

    postMessage(data) {
      if (this.#inside) this.#inside.dispatchEvent(new this.#inside.MessageEvent("message", { data }))
      else this.#waiting.push(data)
    }

    #start(inside, address) {
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }))
      const script = inside.document.createElement("script")
      script.src = address
      script.addEventListener("load", () => {
        this.#inside = inside
        for (const data of this.#waiting.splice(0)) this.postMessage(data)
      })
      inside.document.head.append(script)
    }
  }
}
