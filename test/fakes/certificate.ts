import { generateKeyPairSync, randomBytes, sign } from 'node:crypto';

/** PEM */
export interface Certificate {
  key: string;
  cert: string;
}

/** A certificate that has signed itself, for one name and for 127.0.0.1; valid for a day. */
export function selfSignedCertificate(name: string): Certificate {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  const issuer = sequence(set(sequence(oid('550403'), utf8(name))));
  const algorithm = sequence(oid('2a8648ce3d040302'));
  const dayMs = 86_400_000;
  const body = sequence(
    element(0xa0, integer(Buffer.from([2]))),
    integer(Buffer.concat([Buffer.from([1]), randomBytes(8)])),
    algorithm,
    issuer,
    sequence(time(Date.now() - dayMs), time(Date.now() + dayMs)),
    issuer,
    publicKey.export({ type: 'spki', format: 'der' }),
    element(0xa3, sequence(basicConstraints(), alternativeNames(name))),
  );
  const signature = Buffer.concat([Buffer.from([0]), sign('sha256', body, privateKey)]);
  const certificate = sequence(body, algorithm, element(0x03, signature));
  return {
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    cert: `-----BEGIN CERTIFICATE-----\n${certificate.toString('base64')}\n-----END CERTIFICATE-----\n`,
  };
}

/** DER: a tag, the length, the content. */
function element(tag: number, ...contents: Buffer[]): Buffer {
  const content = Buffer.concat(contents);
  if (content.length < 0x80) return Buffer.concat([Buffer.from([tag, content.length]), content]);
  const length = Buffer.alloc(2);
  length.writeUInt16BE(content.length);
  return Buffer.concat([Buffer.from([tag, 0x82]), length, content]);
}

const sequence = (...contents: Buffer[]) => element(0x30, ...contents);
const set = (...contents: Buffer[]) => element(0x31, ...contents);
const integer = (bytes: Buffer) => element(0x02, bytes);
const oid = (hex: string) => element(0x06, Buffer.from(hex, 'hex'));
const utf8 = (text: string) => element(0x0c, Buffer.from(text));
const time = (ms: number) => element(0x18, Buffer.from(new Date(ms).toISOString().replace(/[-:T]|\.\d+/g, '')));

function basicConstraints(): Buffer {
  return sequence(oid('551d13'), element(0x04, sequence(element(0x01, Buffer.from([0xff])))));
}

function alternativeNames(name: string): Buffer {
  const names = sequence(element(0x82, Buffer.from(name)), element(0x87, Buffer.from([127, 0, 0, 1])));
  return sequence(oid('551d11'), element(0x04, names));
}
