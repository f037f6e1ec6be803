/** Quoted-printable (RFC 2045 §6.7): text in UTF-8 that passes any host and can still be read as it stands. */

const LINE_AT_MOST = 76;

/** One line of text, without its end, as one or more lines of at most 76 octets, with soft line breaks between. */
export function quotedPrintable(text: string): string {
  const pieces: string[] = [];
  let line = '';
  const characters = [...text];
  for (const [at, character] of characters.entries()) {
    const isLast = at === characters.length - 1;
    const plain = /^[!-<>-~]$/.test(character) || (/^[ \t]$/.test(character) && !isLast);
    const encoded = plain ? character : octetsOf(character);
    // One octet is kept for the "=" of a soft break.
    if (line.length + encoded.length >= LINE_AT_MOST) {
      pieces.push(`${line}=`);
      line = '';
    }
    line += encoded;
  }
  return [...pieces, line].join('\r\n');
}

function octetsOf(character: string): string {
  const octets = [...Buffer.from(character, 'utf8')];
  return octets.map((octet) => `=${octet.toString(16).toUpperCase().padStart(2, '0')}`).join('');
}
