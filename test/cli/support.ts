/** Runs a command in this process and keeps what it prints. */
import type { Command } from 'commander';
import { vi } from 'vitest';
import { createProgram, runProgram } from '../../src/cli/program.ts';

export interface Printed {
  readonly out: string;
  readonly err: string;
  readonly exitCode: number;
}

export async function runCommands(commands: readonly Command[], ...args: string[]): Promise<Printed> {
  const out: string[] = [];
  const err: string[] = [];
  const spies = [
    vi.spyOn(process.stdout, 'write').mockImplementation((text) => out.push(String(text)) > 0),
    vi.spyOn(process.stderr, 'write').mockImplementation((text) => err.push(String(text)) > 0),
  ];
  process.exitCode = undefined;
  try {
    await runProgram(createProgram(commands), ['node', 'dane-relay', ...args]);
    return { out: out.join(''), err: err.join(''), exitCode: Number(process.exitCode ?? 0) };
  } finally {
    process.exitCode = undefined;
    for (const spy of spies) spy.mockRestore();
  }
}
