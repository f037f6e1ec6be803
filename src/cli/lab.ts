/**
 * `lab`: starts the closed internet on loopback and tells its story. The lab is no part of the relay and is not there
 * in production, so it is looked for when it is wanted, and this file knows nothing of it but its door.
 */
import { Command } from 'commander';

/** What lab/play.ts offers. Resolves to the exit status when the user has ended it. */
interface Door {
  readonly play: (options: { readonly port: number | null; readonly json: boolean }) => Promise<number>;
}

export function labCommand(): Command {
  return new Command('lab')
    .description('start a closed internet on loopback, with mail hosts of every mood, to try the relay on')
    .option('--port <number>', 'port of the mail hosts; 25 where that is allowed, else a free one')
    .option('--json', 'print one JSON document that says what is where')
    .action(async ({ port, json }: { port?: string; json?: boolean }, command: Command) => {
      const wish = port === undefined ? null : Number(port);
      if (wish !== null && !(Number.isInteger(wish) && wish > 0 && wish < 65_536)) {
        command.error(`"${port}" is no port; expected a whole number from 1 to 65535`, { exitCode: 2 });
      }
      const door = await findLab();
      if (door === null) {
        process.stderr.write('The lab is in a checkout of the project only; run "npm ci" there, then "npm run lab".\n');
        process.exitCode = 3;
        return;
      }
      process.exitCode = await door.play({ port: wish, json: json === true });
    });
}

async function findLab(): Promise<Door | null> {
  try {
    // A name that is put together at run time: the type checker and the rules of layering stay out of the lab.
    return (await import(new URL('../../lab/play.ts', import.meta.url).href)) as Door;
  } catch (error) {
    // The folder, or one of the development packages that it needs, is not there.
    if ((error as NodeJS.ErrnoException).code === 'ERR_MODULE_NOT_FOUND') return null;
    throw error;
  }
}
