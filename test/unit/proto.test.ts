import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { z } from 'zod';

const run = promisify(execFile);
const repository = resolve(import.meta.dirname, '../..');
const specification = 'github.com/container-storage-interface/spec@v1.13.0';

/** `{}` and no options are the same. */
const optionsSchema = z
  .record(z.string(), z.unknown())
  .optional()
  .transform((options) => (options && Object.keys(options).length > 0 ? options : undefined));
const enumSchema = z.object({
  name: z.string(),
  value: z.array(z.object({ name: z.string(), number: z.int().default(0), options: optionsSchema })),
  reservedRange: z.array(z.unknown()).optional(),
});
const fieldSchema = z.object({
  name: z.string(),
  number: z.int(),
  type: z.string(),
  typeName: z.string().optional(),
  label: z.string(),
  oneofIndex: z.int().optional(),
  proto3Optional: z.boolean().optional(),
  extendee: z.string().optional(),
  options: optionsSchema,
});
const messageSchema = z.object({
  name: z.string(),
  field: z.array(fieldSchema).default([]),
  oneofDecl: z.array(z.object({ name: z.string() })).default([]),
  enumType: z.array(enumSchema).default([]),
  reservedRange: z.array(z.unknown()).optional(),
  reservedName: z.array(z.string()).optional(),
  options: optionsSchema,
  get nestedType() {
    return z.array(messageSchema).default([]);
  },
});
const serviceSchema = z.object({
  name: z.string(),
  method: z.array(
    z.object({
      name: z.string(),
      inputType: z.string(),
      outputType: z.string(),
      clientStreaming: z.boolean().optional(),
      serverStreaming: z.boolean().optional(),
      options: optionsSchema,
    }),
  ),
  options: optionsSchema,
});
const fileSchema = z.object({
  name: z.string(),
  package: z.string(),
  syntax: z.string(),
  messageType: z.array(messageSchema).default([]),
  enumType: z.array(enumSchema).default([]),
  service: z.array(serviceSchema).default([]),
  extension: z.array(fieldSchema).default([]),
});
type Message = z.infer<typeof messageSchema>;
type Enum = z.infer<typeof enumSchema>;

/** Every fact of the wire that a definition states, one line each, whatever the order of the text. */
async function factsOf(directory: string): Promise<string[]> {
  const scratch = await mkdtemp(join(tmpdir(), 'lamina-proto-'));
  try {
    const image = join(scratch, 'image.json');
    const args = ['build', join(directory, 'csi.proto'), '-o', image];
    // From elsewhere, so that no buf.yaml has a say.
    await run(join(repository, 'node_modules/.bin/buf'), args, { cwd: scratch });
    const { file: files } = z.object({ file: z.array(z.unknown()) }).parse(JSON.parse(await readFile(image, 'utf8')));
    const own = files.find((file) => z.object({ package: z.string() }).safeParse(file).data?.package === 'csi.v1');
    return fileFacts(fileSchema.parse(own)).toSorted();
  } finally {
    await rm(scratch, { recursive: true });
  }
}

function fileFacts(file: z.infer<typeof fileSchema>): string[] {
  return [
    `syntax ${file.syntax}, package ${file.package}`,
    ...file.messageType.flatMap((message) => messageFacts(message, '')),
    ...file.enumType.flatMap((type) => enumFacts(type, '')),
    ...file.extension.map((field) => `extension ${JSON.stringify(field)}`),
    ...file.service.flatMap(({ method, ...service }) => [
      `service ${JSON.stringify(service)}`,
      ...method.map((rpc) => `service ${service.name} rpc ${JSON.stringify(rpc)}`),
    ]),
  ];
}

function messageFacts(message: Message, prefix: string): string[] {
  const name = `${prefix}${message.name}`;
  const { reservedRange, reservedName, options } = message;
  return [
    `message ${name} ${JSON.stringify({ reservedRange, reservedName, options })}`,
    ...message.field.map(({ oneofIndex, ...field }) => {
      const oneof = oneofIndex === undefined ? undefined : message.oneofDecl[oneofIndex]?.name;
      return `message ${name} field ${JSON.stringify({ ...field, oneof })}`;
    }),
    ...message.nestedType.flatMap((nested) => messageFacts(nested, `${name}.`)),
    ...message.enumType.flatMap((type) => enumFacts(type, `${name}.`)),
  ];
}

function enumFacts(type: Enum, prefix: string): string[] {
  const name = `${prefix}${type.name}`;
  return [
    `enum ${name} ${JSON.stringify({ reserved: type.reservedRange })}`,
    ...type.value.map((value) => `enum ${name} value ${JSON.stringify(value)}`),
  ];
}

/** The directory of the published specification's Go module, or why it cannot be had. */
async function publishedSpecification(): Promise<{ directory: string } | { missing: string }> {
  try {
    // A module cache outside of any module: nothing here depends on the specification's Go code.
    const { stdout } = await run('go', ['mod', 'download', '-json', specification], { cwd: tmpdir(), timeout: 60_000 });
    return { directory: z.object({ Dir: z.string() }).parse(JSON.parse(stdout)).Dir };
  } catch (error) {
    return { missing: `${specification} cannot be had with go mod download: ${String(error).split('\n')[0]}` };
  }
}

test('proto/csi.proto says of every message, enum and service what the published CSI 1.13 specification says', async (context) => {
  const published = await publishedSpecification();
  if ('missing' in published) return context.skip(published.missing);
  const ours = await factsOf(join(repository, 'proto'));
  expect(ours.length).toBeGreaterThan(400);
  expect(ours).toEqual(await factsOf(published.directory));
}, 120_000);
