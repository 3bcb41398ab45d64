// Brings Perfetto's tracks into the order of the timeline, which Perfetto itself does not follow: ranks by their numbers
// instead of by how much they hold, and the step classes of all of them on top. What fails here leaves Perfetto's order.
"use strict";
(() => {
  const STEP_CLASSES = /^rank \d+ · step classes/;
  const MOST_ON_TOP = 8; // more would have to be scrolled
  const TRIES = 6000, EACH_MS = 100; // a large timeline takes minutes
  const first = new URL(document.currentScript.src).searchParams.get("ranks").split(",").filter(Boolean).map(Number);

  const number = (node) => Number(node.name.split(" ").at(-1)); // of the process, as the timeline counts them

  const arrange = (workspace) => {
    const processes = workspace.children.filter((node) => node.uri?.startsWith("/process_"));
    processes.sort((a, b) => number(a) - number(b));
    processes.forEach((node) => workspace.addChildLast(node));
    const classes = workspace.flatTracksOrdered.filter((node) => node.uri?.startsWith("/slice_") && STEP_CLASSES.test(node.name));
    onTop(classes).forEach((node) => node.pin());
    processes[0]?.expand();
  };

  const onTop = (classes) => {
    if (classes.length <= MOST_ON_TOP) return classes;
    const rank = (node) => Number(node.name.split(" ")[1]);
    const place = (node) => first.includes(rank(node)) ? first.indexOf(rank(node)) : first.length + rank(node);
    const chosen = [...classes].sort((a, b) => place(a) - place(b)).slice(0, MOST_ON_TOP);
    return classes.filter((node) => chosen.includes(node));
  };

  const whenLoaded = (tries) => {
    const app = window.app;
    const loaded = app?.trace && !app.isLoadingTrace && app.trace.workspace.children.length > 0;
    if (loaded) arrange(app.trace.workspace);
    else if (tries > 0) setTimeout(() => whenLoaded(tries - 1), EACH_MS);
  };
  whenLoaded(TRIES);
})();
