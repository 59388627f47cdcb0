"use strict";

/* Elements and words. Text of models and users enters the page here alone, as text nodes. */

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.map((child) => (child instanceof Node ? child : document.createTextNode(child))));
  return element;
}

function html(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function part(id) {
  return document.getElementById(id);
}

const GLYPHS = { " ": "·", "\n": "⏎", "\r": "␍", "\t": "⇥" };

/* A token with its white space made visible, control characters by their pictures, and cut where it is long. */
function visible(text, longest = 18) {
  const letters = [...text].map((letter) => {
    const code = letter.codePointAt(0);
    return GLYPHS[letter] ?? (code < 32 ? String.fromCodePoint(0x2400 + code) : /\p{C}/u.test(letter) ? "□" : letter);
  });
  return letters.length > longest ? `${letters.slice(0, longest - 1).join("")}…` : letters.join("") || "∅";
}

function fixed(number, digits) {
  return number.toFixed(digits);
}

function signed(number) {
  return `${number < 0 ? "−" : "+"}${fixed(Math.abs(number), 0)}`;
}

/* A probability without its leading zero. */
function chance(number) {
  return number > 0.9949 ? "1" : number > 0 && number < 0.005 ? "<.01" : fixed(number, 2).slice(1);
}

function count(number, word) {
  return `${number} ${word}${number === 1 ? "" : "s"}`;
}

function shade(depth) {
  return `depth-${Math.min(depth, 6)}`;
}

function sum(numbers) {
  return numbers.reduce((total, number) => total + number, 0);
}
