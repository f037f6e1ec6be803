/** Text from strangers, fit to be shown: it cannot begin a line, command a terminal or turn other text around. */

/** Controls (C0, DEL, C1), line and paragraph separators, and the marks that change the direction of text. */
const HARMFUL = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]+/g;

/** What most text is: nothing in it needs a second look. */
const PLAIN = /^[ -~]*$/;

/** Puts one space in the place of each run of what could do harm; halves of characters are replaced too. */
export function harmless(text: string): string {
  return PLAIN.test(text) ? text : text.toWellFormed().replace(HARMFUL, ' ');
}
