const isNumber = require("is-number");

console.log(["1", "x", "1e3"].map((text) => `${text}: ${isNumber(text)}`).join(", "));
