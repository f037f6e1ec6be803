/**
 * The web server of the lab that takes TLS reports (RFC 8460 §5.4), with a certificate under the lab's own public
 * authority. It writes down what it was given.
 */
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { type Identity, leafUnder } from './certificates.ts';

export interface ReportHost {
  /** Its domain: the name in its certificate. */
  readonly name: string;
  readonly address: string;
  /** What a domain puts into its TLSRPT record. */
  readonly uri: string;
  /** Bodies of all requests, in order, each as it came. */
  readonly received: () => readonly Buffer[];
  readonly stop: () => Promise<void>;
}

const REPORT_HOST = 'tls-reports.test';

/** @param authority issues the certificate */
export async function startReportHost(authority: Identity, address: string): Promise<ReportHost> {
  const received: Buffer[] = [];
  const { chain: cert, key } = await leafUnder(authority, REPORT_HOST, [REPORT_HOST]);
  const server = createServer({ cert, key }, (request, response) => {
    const pieces: Buffer[] = [];
    request.on('data', (piece: Buffer) => pieces.push(piece));
    request.on('end', () => {
      const isReport = request.method === 'POST' && request.headers['content-type'] === 'application/tlsrpt+gzip';
      if (isReport) received.push(Buffer.concat(pieces));
      response.writeHead(isReport ? 201 : 400).end();
    });
  });
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, address, resolve));
  const { port } = server.address() as AddressInfo;
  return {
    name: REPORT_HOST,
    address,
    uri: `https://${REPORT_HOST}:${port}/v1`,
    received: () => received,
    stop: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}
