// Buttons of an answer: what they do stands in their data.
const REFUSED = "The page did not take it; slow down and try again.";

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
  else trigger("submit", told(button));
});

// On a phone the answer lies below the fold.
watch("value", () => {
  const answer = element.firstElementChild;
  if (element.getBoundingClientRect().top > window.innerHeight * 0.7)
    answer?.scrollIntoView({ block: "start" });
});
