// Sliders, figures that a tap enlarges, and values under the pointer. The page is whole without.
"use strict";
const close = document.createElement("button"), dialog = document.createElement("dialog");
close.textContent = "Close";
dialog.setAttribute("aria-label", "Enlarged figure");
dialog.onclick = () => dialog.close();
document.body.append(dialog);

for (const figure of document.querySelectorAll("figure:has(> img)")) {
  const image = figure.querySelector("img"), box = figure.querySelector(".frames");
  const shown = box ? box.querySelector("canvas") : image;
  const button = document.createElement("button");
  button.className = "zoom";
  button.title = box ? "Show all at once" : "Enlarge";
  button.onclick = () => {
    const large = image.cloneNode();
    large.removeAttribute("width");
    dialog.replaceChildren(close, large);
    dialog.showModal();
  };
  shown.replaceWith(button);
  button.append(shown);
  if (box) frames(figure, image, box);
  if (image.dataset.points) values(button, image);
}

function frames(figure, sheet, box) {
  const rows = JSON.parse(box.dataset.rows);
  const [canvas, slider, value, choice] =
    ["canvas", "input", "output", "select"].map(tag => box.querySelector(tag));
  const draw = () => {
    const [name, x, y] = rows[choice ? choice.selectedIndex : 0][slider.value];
    canvas.getContext("2d").drawImage(sheet, -x, -y);
    value.textContent = name;
    slider.setAttribute("aria-valuetext", name);
  };
  box.addEventListener("input", draw);
  sheet.decode().then(() => { draw(); box.hidden = false; figure.classList.add("live"); });
}

function values(button, image) {
  const points = JSON.parse(image.dataset.points), tip = document.createElement("span");
  tip.className = "tip";
  tip.ariaHidden = true;
  button.append(tip);
  image.onpointerleave = () => { tip.textContent = ""; };
  image.onpointermove = at => {
    const scale = image.clientWidth / image.naturalWidth;
    const far = ([, x, y]) => Math.hypot(x * scale - at.offsetX, y * scale - at.offsetY);
    const near = points.reduce((a, b) => far(a) < far(b) ? a : b);
    tip.textContent = far(near) < 16 ? near[0] : "";
    tip.style.translate = `${near[1] * scale}px ${near[2] * scale}px`;
  };
}
