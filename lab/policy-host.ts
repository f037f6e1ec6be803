/**
 * The web server of the lab that serves the MTA-STS policies of all its domains: `https://mta-sts.DOMAIN/`, each with a
 * certificate under the lab's own public authority. It writes down who asked, and misbehaves where it is told to.
 */
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { createSecureContext, type SecureContext } from 'node:tls';
import { type Identity, leafUnder, selfSigned } from './certificates.ts';

/** How the policy of one domain is served. */
export type Serving =
  | 'well'
  /** 404. */
  | 'missing'
  /** 302 to the same path on another host. */
  | 'redirects'
  /** With a certificate that signs itself. */
  | 'self-signed'
  /** The policy, and 10 MB of hosts after it. */
  | 'huge'
  /** A page that says that it was not found, with 200. */
  | 'page'
  /** The policy with a NUL in the name of a host. */
  | 'spoilt';

interface Page {
  readonly text: string;
  readonly serving: Serving;
  readonly context: SecureContext;
}

export interface PolicyHost {
  readonly address: string;
  readonly port: number;
  /** Puts a policy in place, or another in the place of it. */
  readonly serve: (domain: string, text: string, serving: Serving) => Promise<void>;
  /** How often the policy of a domain was asked for. */
  readonly asked: (domain: string) => number;
  readonly stop: () => Promise<void>;
}

const PATH = '/.well-known/mta-sts.txt';

/** @param authority issues the certificates */
export async function startPolicyHost(authority: Identity, address: string): Promise<PolicyHost> {
  const pages = new Map<string, Page>();
  const asked = new Map<string, number>();
  const fallback = await selfSigned('somebody-else.test');
  const server = createServer(
    {
      cert: fallback.chain,
      key: fallback.key,
      SNICallback: (name, callback) => callback(null, pages.get(name)?.context),
    },
    ({ headers: { host = '' }, url }, response) => {
      const name = host.replace(/:\d+$/, '');
      asked.set(name, (asked.get(name) ?? 0) + 1);
      const page = pages.get(name);
      if (!page || url !== PATH || page.serving === 'missing') response.writeHead(404).end();
      else if (page.serving === 'redirects') response.writeHead(302, { location: `https://www.${name}${PATH}` }).end();
      else response.writeHead(200, { 'content-type': 'text/plain' }).end(bodyOf(page));
    },
  );
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, address, resolve));
  return {
    address,
    port: (server.address() as AddressInfo).port,
    serve: async (domain, text, serving) => {
      const name = `mta-sts.${domain}`;
      const own = serving === 'self-signed' ? await selfSigned(name) : await leafUnder(authority, name, [name]);
      pages.set(name, { text, serving, context: createSecureContext({ cert: own.chain, key: own.key }) });
    },
    asked: (domain) => asked.get(`mta-sts.${domain}`) ?? 0,
    stop: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

function bodyOf({ text, serving }: Page): string {
  if (serving === 'page') return '<!doctype html><title>Not found</title>';
  if (serving === 'spoilt') return text.replace(/^mx: /m, 'mx: a\0');
  return serving === 'huge' ? text + 'mx: mx.elsewhere.test\r\n'.repeat(450_000) : text;
}
