/** A stored message with what goes on top of it as it leaves. What is stored stays as it is. */
import { PassThrough, pipeline } from 'node:stream';
import type { LeavingBody } from '../model/message.ts';

/** The fields first, then the octets as they are stored. An error of the stored stream is one of what comes out. */
export function withHeader(header: Buffer | undefined, stored: LeavingBody): LeavingBody {
  if (header === undefined || header.length === 0) return stored;
  if (stored.kind !== 'stream') return { ...stored, bytes: Buffer.concat([header, stored.bytes]) };
  const whole = new PassThrough();
  whole.write(header);
  // Who reads it is told of the error by the stream itself.
  pipeline(stored.stream, whole, () => undefined);
  return { kind: 'stream', stream: whole };
}
