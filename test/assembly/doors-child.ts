/** A process that connections are given to, for doors.test.ts: greets with its pid, and ends each. */
import type { Socket } from 'node:net';

process.on('message', ({ door }: { readonly door: number }, socket?: Socket) => {
  process.send?.('taken');
  socket?.on('error', () => undefined);
  socket?.end(`${process.pid} at ${door}\n`);
});
process.on('disconnect', () => process.exit(0));
