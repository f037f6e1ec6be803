/**
 * A reporter for Vitest that sums the run up in one line, `N passed, N failed`, for scripts. The line goes to the file
 * that CLOSING_LINE names, and to stdout when there is none. A file that could not be loaded and an error outside of
 * any test count as failed. Before it come the tests that were out of time once and passed at the second try.
 */
import { writeFileSync } from 'node:fs';
import type { Reporter } from 'vitest/node';

export default class ClosingLine implements Reporter {
  onTestRunEnd(...[modules, errors]: Parameters<NonNullable<Reporter['onTestRunEnd']>>): void {
    let passed = 0;
    let failed = errors.length;
    const again: string[] = [];
    for (const module of modules) {
      const tests = [...module.children.allTests()];
      passed += tests.filter((test) => test.result().state === 'passed').length;
      again.push(...tests.filter((test) => test.diagnostic()?.flaky).map(({ fullName }) => fullName));
      const failures = tests.filter((test) => test.result().state === 'failed').length;
      failed += failures === 0 && module.state() === 'failed' ? 1 : failures;
    }
    for (const test of again) process.stdout.write(`out of time at the first try: ${test}\n`);
    const line = `${passed} passed, ${failed} failed\n`;
    const file = process.env['CLOSING_LINE'];
    if (file) writeFileSync(file, line);
    else process.stdout.write(line);
  }
}
