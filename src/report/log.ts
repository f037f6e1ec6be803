/**
 * The log: one JSON object a line on stdout, written by pino. Mail events carry the names of interface and
 * verdict; message content, passwords and keys are never handed to it.
 */
import { pino, stdTimeFunctions } from 'pino';
import type { Logger } from '../model/events.ts';
import { createLineWriter } from './line-writer.ts';
import { createSharedLineWriter } from './shared-line-writer.ts';

export interface RelayLog extends Logger {
  readonly setLevel: (level: LogLevel) => void;
}

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/**
 * @param fd     file descriptor to write to: 1 for the relay itself, 2 where stdout belongs to a command's answer
 * @param worker number of this worker, where several write to the same place; null for one that writes alone
 */
export function createLogger(level: LogLevel, fd: 1 | 2, worker: number | null = null): RelayLog {
  const out = pino(
    {
      level,
      base: worker === null ? null : { worker },
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    worker === null ? createLineWriter(fd) : createSharedLineWriter(fd),
  );
  return {
    mail: (event) => out.info(event, event.explanation),
    debug: (message, fields = {}) => out.debug(fields, message),
    info: (message, fields = {}) => out.info(fields, message),
    warn: (message, fields = {}) => out.warn(fields, message),
    error: (message, fields = {}) => out.error(fields, message),
    setLevel: (next) => {
      out.level = next;
    },
  };
}
