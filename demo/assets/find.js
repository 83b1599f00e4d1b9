const REFUSED = "The page did not take it; slow down and try again.";
const FAILED = "The page gave no answer; slow down and try again.";
const SAMPLE = "sample:";

// One search at a time, so that no answer comes after a later one's. What is asked for meanwhile
// stands in the page's fields, and is searched for then. Gradio's own way to wait sends what it has put
// off with the event before it, forgets it where that one fails, and lets pass what comes at once.
window.productFinder = {
  // What was clicked since the last time that something was asked for.
  chosen: {},
  // Whether a search is under way, and another one waits for its end.
  runs: false,
  waits: false,

  // Photo, words, liked product and whether weak matches are wanted; what is not said stays.
  ask() {
    const { does, sample, url, product, name } = this.chosen;
    this.chosen = {};
    if (does === "sample") {
      const meta = { _type: "gradio.FileData" };
      return [{ path: SAMPLE + sample, url, orig_name: sample, meta }, "", "", ""];
    }
    const liked = { like: JSON.stringify([product, name]), unlike: "" }[does];
    return [undefined, undefined, liked, does === "weak" ? "yes" : ""];
  },

  search() {
    this.waits = this.runs;
    if (this.runs) return;
    this.runs = true;
    trigger("tick");
  },

  // The page has the samples itself, so their names are sent.
  send(photo, sample, ...others) {
    if (!photo?.path.startsWith(SAMPLE)) return [photo, "", ...others];
    return [null, photo.path.slice(SAMPLE.length), ...others];
  },

  // Whether another one follows.
  ended() {
    const follows = this.waits;
    this.runs = false;
    if (follows) this.search();
    return follows;
  },

  // The answer, and the requests to copy below it.
  failed() {
    if (this.ended()) return [];
    const alert = `<div class="pm-alert" role="alert">${FAILED}</div>`;
    return [alert, { __type__: "update", visible: false }];
  },
};

// Buttons of an answer: what they do stands in their data.
const told = (button) => ({ ...button.dataset });

const show = (button) => {
  for (const panel of element.querySelectorAll("[data-panel]"))
    panel.hidden = panel.dataset.panel !== button.dataset.object;
  for (const other of element.querySelectorAll("[data-does=show]"))
    other.setAttribute("aria-pressed", String(other.dataset.object === button.dataset.object));
};

const judge = async (button) => {
  const actions = button.parentElement;
  actions.parentElement.querySelector(".pm-alert")?.remove();
  // Gradio returns nothing where the page refuses or does not answer.
  const answer = (await server.feedback(told(button))) ?? { alert: REFUSED };
  if (answer.alert) {
    const said = document.createElement("div");
    said.className = "pm-alert";
    said.setAttribute("role", "alert");
    said.textContent = answer.alert;
    actions.after(said);
    return;
  }
  for (const other of actions.querySelectorAll("[data-does=judge]"))
    other.setAttribute("aria-pressed", String(other === button));
};

element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-does]");
  if (!button) return;
  const does = button.dataset.does;
  if (does === "show") show(button);
  else if (does === "judge") judge(button);
  else if (does === "edit") trigger("click", told(button));
  else {
    productFinder.chosen = told(button);
    trigger("submit");
  }
});

// On a phone the answer lies below the fold.
watch("value", () => {
  const answer = element.firstElementChild;
  if (element.getBoundingClientRect().top > window.innerHeight * 0.7)
    answer?.scrollIntoView({ block: "start" });
});
