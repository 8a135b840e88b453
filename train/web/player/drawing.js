"use strict";
// Shapes on a canvas. Colours are "#rrggbb" or "#rrggbbaa", lengths in the units of the picture.

function rounded(pen, x, y, width, height, radius, colour) {
  pen.fillStyle = colour;
  pen.beginPath();
  pen.roundRect(x, y, width, height, radius);
  pen.fill();
}

function disc(pen, x, y, radius, colour) {
  pen.fillStyle = colour;
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.fill();
}

function ring(pen, x, y, radius, width, colour) {
  pen.strokeStyle = colour;
  pen.lineWidth = width;
  pen.setLineDash([]);
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.stroke();
}

function stroked(pen, points, width, colour, dash = []) {
  pen.strokeStyle = colour;
  pen.lineWidth = width;
  pen.lineCap = pen.lineJoin = "round";
  pen.setLineDash(dash);
  pen.beginPath();
  points.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
  pen.stroke();
}

function polygon(pen, points, colour) {
  pen.fillStyle = colour;
  pen.beginPath();
  points.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
  pen.fill();
}

/** The width of the text that it writes. */
function written(pen, text, x, y, size, colour, align = "left") {
  pen.fillStyle = colour;
  pen.font = `600 ${size}px system-ui, sans-serif`;
  pen.textAlign = align;
  pen.textBaseline = "middle";
  pen.fillText(text, x, y);
  return pen.measureText(text).width;
}

/** A colour between two, which are "#rrggbb". */
function blended(from, to, share) {
  const part = (colour, place) => parseInt(colour.slice(1 + 2 * place, 3 + 2 * place), 16);
  const mixed = [0, 1, 2].map((place) => Math.round(part(from, place) * (1 - share) + part(to, place) * share));
  return `rgb(${mixed.join(", ")})`;
}
