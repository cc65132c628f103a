// Two aids for a narrow screen: a picture opens in its full size, and a box that scrolls shows it.
"use strict";
{
  const make = (name, attributes) => Object.assign(document.createElement(name), attributes);

  // A dialog brings its own keyboard: Escape closes it, and the focus goes back to the button.
  const dialog = make("dialog", { className: "enlarged" });
  const close = make("button", { type: "button", className: "enlarge-close", textContent: "Close" });
  const frame = make("div", { tabIndex: 0 });
  close.onclick = () => dialog.close();
  dialog.onclick = (event) => event.target === dialog && dialog.close();
  dialog.append(close, frame);

  const enlargeable = (picture) => {
    const number = picture.closest("figure")?.querySelector(".caption-number")?.textContent.trim();
    const button = make("button", { type: "button", className: "enlarge" });
    button.ariaLabel = `Enlarge ${number ?? "the picture"}`;
    button.onclick = () => {
      dialog.ariaLabel = number ?? "Picture";
      frame.replaceChildren(picture.cloneNode());
      dialog.showModal();
      close.focus();
    };
    picture.addEventListener("click", () => button.click());
    const place = make("span", { className: "enlargeable" });
    picture.replaceWith(place);
    place.append(picture, button);
  };

  const scrolling = (box) => {
    const look = () => {
      box.classList.toggle("more", box.scrollWidth - box.clientWidth - box.scrollLeft > 2);
    };
    box.addEventListener("scroll", look, { passive: true });
    new ResizeObserver(look).observe(box);
  };

  addEventListener("DOMContentLoaded", () => {
    document.body.append(dialog);
    document.querySelectorAll(".bd-article img:not(.touch, .touched img)").forEach(enlargeable);
    document
      .querySelectorAll(".bd-article :is(pre, .output.text_html, .pst-scrollable-table-container)")
      .forEach(scrolling);
  });
}
