/**
 * What keeps a page up to date in a browser. It loads the same page again and takes over what differs, so that focus,
 * selection and scroll positions stay; a page without it lacks nothing but that.
 */
export const script = `(() => {
  "use strict"
  const live = document.getElementById("live")
  const toggle = document.querySelector("[data-live-toggle]")
  const status = document.querySelector("[data-live-status]")
  const reload = document.querySelector("[data-live-reload]")
  const problem = document.querySelector("[data-live-problem]")
  if (!live || !toggle || !status || !reload || !problem) return

  const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null)

  const isSame = (from, to) =>
    from.nodeType === to.nodeType && from.nodeName === to.nodeName && keyOf(from) === keyOf(to)

  const update = (from, to) => {
    if (from.nodeType !== Node.ELEMENT_NODE) {
      if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue
      return
    }
    for (const { name } of [...from.attributes]) if (!to.hasAttribute(name)) from.removeAttribute(name)
    for (const { name, value } of to.attributes) if (from.getAttribute(name) !== value) from.setAttribute(name, value)
    updateChildren(from, to)
  }

  // Rows are known by their keys: a row that goes takes no focus from the others, and none turns into another.
  const updateChildren = (from, to) => {
    const wanted = new Set([...to.children].map(keyOf))
    for (const child of [...from.children]) if (keyOf(child) !== null && !wanted.has(keyOf(child))) child.remove()
    const rows = new Map([...from.children].map((child) => [keyOf(child), child]))
    rows.delete(null)
    let at = from.firstChild
    for (const child of [...to.childNodes]) {
      const same = rows.get(keyOf(child)) ?? (at && isSame(at, child) ? at : undefined)
      if (same === undefined) {
        from.insertBefore(document.importNode(child, true), at)
        continue
      }
      if (same === at) at = at.nextSibling
      else from.insertBefore(same, at)
      update(same, child)
    }
    while (at) {
      const next = at.nextSibling
      at.remove()
      at = next
    }
  }

  const show = (next) => {
    const focused = document.activeElement
    const held = live.contains(focused)
    updateChildren(live, next)
    if (!held || document.activeElement === focused) return
    const target = focused.isConnected ? focused : live
    target.focus({ preventScroll: true })
  }

  const interval = Number(live.dataset.live)
  const clock = () => new Date().toLocaleTimeString()
  let shownAt = clock()
  let paused = false
  let timer
  let asking = false

  const say = () => {
    status.textContent = paused ? "Paused at " + shownAt : "Live · " + shownAt
    toggle.textContent = paused ? "Resume updates" : "Pause updates"
  }

  const tell = (text) => {
    if (problem.textContent !== text) problem.textContent = text
  }

  const ask = async () => {
    const response = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(20000) })
    const page = new DOMParser().parseFromString(await response.text(), "text/html")
    const next = page.getElementById("live")
    if (next === null) throw new Error(String(response.status))
    return next
  }

  const poll = async () => {
    if (asking) return
    asking = true
    const start = performance.now()
    try {
      const next = await ask()
      if (!paused) {
        show(next)
        shownAt = clock()
        tell("")
        say()
      }
    } catch {
      if (!paused) tell("Not up to date: the console or its store does not answer. What is shown is of " + shownAt + ".")
    }
    asking = false
    // A slow store is asked less often: at most a tenth of the time.
    plan(Math.max(interval, 10 * (performance.now() - start)))
  }

  const plan = (delay) => {
    clearTimeout(timer)
    if (!paused && !document.hidden) timer = setTimeout(poll, delay)
  }

  toggle.addEventListener("click", () => {
    paused = !paused
    say()
    plan(0)
  })
  document.addEventListener("visibilitychange", () => plan(0))

  reload.hidden = true
  status.hidden = false
  toggle.hidden = false
  say()
  plan(interval)
})()
`
