/** A relay in the lab while something around it breaks: what its sender, its operator and its recipients see. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { send } from '../../lab/client.ts';
import { type Lab, startLab } from '../../lab/lab.ts';
import { type RelayOptions, type RunningRelay, startRelay } from '../../lab/relay.ts';
import { WORLD } from '../../lab/world.ts';

/** A domain whose host proves itself by DANE, and one without TLSA whose host can be given moods. */
export const PROVEN = 'bob@dane-ee.test';
export const PLAIN = 'bob@no-tlsa.test';
export const PLAIN_HOST = 'mx.no-tlsa.test';

export interface Scene {
  readonly lab: Lab;
  /** Folder of this scene alone. */
  readonly folder: string;
  readonly relay: (options?: Partial<RelayOptions>) => Promise<RunningRelay>;
  readonly end: () => Promise<void>;
}

export async function startScene(): Promise<Scene> {
  const folder = mkdtempSync(join(tmpdir(), 'dane-fault-'));
  const lab = await startLab({
    world: WORLD.filter(({ domain }) => ['dane-ee.test', 'no-tlsa.test', 'office.test'].includes(domain)),
  });
  const running: RunningRelay[] = [];
  return {
    lab,
    folder,
    relay: async (options) => {
      const dir = join(folder, String(running.length));
      const relay = await startRelay({ lab, dir, ...options });
      running.push(relay);
      return relay;
    },
    end: async () => {
      await Promise.all(running.map((relay) => relay.stop()));
      await lab.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

export function letter(name: string, octets = 500): string {
  const line = `${'0123456789'.repeat(7)}\r\n`;
  const body = line.repeat(Math.ceil(octets / line.length));
  return `From: alice@office.test\r\nTo: you\r\nSubject: ${name}\r\n\r\n${body}-- the end\r\n`;
}

/** Sends a letter; resolves to the reply, positive or not. */
export async function offer(relay: RunningRelay, recipient: string, name: string, octets?: number): Promise<string> {
  const content = letter(name, octets);
  try {
    return (await send(relay, relay.client, { sender: 'alice@office.test', recipients: [recipient], content })).reply;
  } catch (error) {
    return String(error);
  }
}

/** Whether the letter has arrived, whole: dropped octets and halves fail the test at once. */
export function hasArrived(lab: Lab, name: string): boolean {
  const mail = lab.mailboxes().find(({ content }) => content.toString('latin1').includes(`\r\nSubject: ${name}\r\n`));
  if (!mail) return false;
  const text = mail.content.toString('latin1');
  expect(text.endsWith('-- the end\r\n')).toBe(true);
  return true;
}

export async function untilArrived(lab: Lab, name: string): Promise<void> {
  await expect.poll(() => hasArrived(lab, name), { message: `${name} arrives` }).toBe(true);
}

/** One page of the admin port. */
export async function page(relay: RunningRelay, path: string): Promise<string> {
  const { admin } = JSON.parse(readFileSync(relay.config, 'utf8')) as { admin: { listen: string } };
  const response = await fetch(`http://${admin.listen}${path}`, { signal: AbortSignal.timeout(60_000) });
  return `${response.status} ${await response.text()}`;
}

export async function untilReady(relay: RunningRelay): Promise<void> {
  await expect.poll(() => page(relay, '/readyz'), { interval: 200 }).toMatch(/^200 /);
}

export async function untilNotReady(relay: RunningRelay, why: RegExp): Promise<void> {
  await expect.poll(() => page(relay, '/readyz'), { interval: 200 }).toMatch(why);
}

/** Whether this process may mount a disk; where not, why. */
export function whyNoMounts(): string | null {
  const disk = mkdtempSync(join(tmpdir(), 'dane-mount-'));
  try {
    mount(disk, '1m');
    unmount(disk);
    return null;
  } catch {
    return 'mounting needs root';
  } finally {
    rmSync(disk, { recursive: true, force: true });
  }
}

/** A disk of its own in a folder that is there. */
export function mount(folder: string, size: string): void {
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', folder], { stdio: 'ignore' });
}

export function unmount(folder: string): void {
  execFileSync('umount', ['-l', folder], { stdio: 'ignore' });
}
