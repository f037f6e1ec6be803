import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { generatedFiles } from '../../docs/generate-configuration.ts';
import { keysOutsideLists, ROOT } from '../../src/config/keys.ts';
import { configOf, load } from './support.ts';

test.each(generatedFiles())('$path is what the table of keys makes of it', ({ path, text }) => {
  expect(readFileSync(path, 'utf8')).toBe(text);
});

const example = readFileSync('config/relay.example.yaml', 'utf8');

test('the example means the defaults as it stands', () => {
  expect(configOf(load(example))).toEqual(configOf(load('')));
});

describe('each key of the example is right when its "#" is taken away', () => {
  const switchedOff = [...example.matchAll(/^( *)#(\w+): (?!$).*$/gm)].map(([line]) => line);

  test('there are keys to try', () => {
    expect(switchedOff.length).toBeGreaterThan(25);
  });

  test.each(switchedOff.filter((line) => !/#(?:cert|key|ca|organisation|contact|from): /.test(line)))('%s', (line) => {
    expect(load(example.replace(line, line.replace('#', ''))).ok).toBe(true);
  });

  test('cert and key together', () => {
    const text = example.replace('#cert:', 'cert:').replace('#key:', 'key:');
    expect(configOf(load(text)).certificate.key).toBe('/etc/dane-relay/relay.key');
  });

  test('what TLS reports need together', () => {
    const text = example.replace('#organisation:', 'organisation:').replace('#contact:', 'contact:');
    expect(configOf(load(text)).tlsReports?.from).toBe('tls-reports@example.nl');
    expect(configOf(load(text.replace('#from:', 'from:'))).tlsReports?.from).toBe('noreply-tls@example.nl');
  });

  test.each(['listen', 'clients', 'destinations'])('the whole of %s', (name) => {
    const block = new RegExp(`^#${name}:\\n(?:#(?! ---).*\\n)+`, 'm').exec(example)?.[0] ?? '';
    const text = example.replace(block, block.replace(/^#/gm, ''));
    expect(configOf(load(text))[name as 'listen']).toHaveLength(name === 'destinations' ? 2 : 1);
  });
});

test('every key has a sentence for the operator, and says what may be written or what holds without it', () => {
  const dumb = keysOutsideLists().flatMap(([path, key]) => {
    const inside = key.element?.children ?? [];
    return [key, ...inside]
      .filter(({ says, kind, expected, unset, required, default: preset }) => {
        const isExplained = /^[A-Z].*\.$/.test(says ?? '');
        const isWritable = kind === 'section' || expected !== undefined;
        const isSettled = kind === 'section' || required || unset !== undefined || preset !== undefined;
        return !isExplained || !isWritable || !isSettled;
      })
      .map(({ name }) => `${path.join('.')} ${name}`);
  });
  expect(dumb).toEqual([]);
});

test('every top-level key has its chapter and its variable in the page', () => {
  const page = readFileSync('docs/configuration.md', 'utf8');
  const chapters = [...page.matchAll(/^### (\w+)$/gm)].map(([, name]) => name);
  expect(chapters).toEqual(ROOT.children.map(({ name }) => name));
  expect(page).toContain('`DANE_RELAY_DELIVERY`');
});
