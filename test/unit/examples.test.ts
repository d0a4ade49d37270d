import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import * as z from 'zod';
import { driverName, groupVersion } from '../../src/api/names.ts';
import { diskImages, diskSnapshots } from '../../src/api/objects.ts';
import { parseMutableParameters, parseVolumeParameters } from '../../src/csi/controller/parameters.ts';
import { chartDirectory } from '../chart.ts';

const directory = path.resolve(import.meta.dirname, '../../examples');
const files = readdirSync(directory).filter((name) => name !== 'README.md');

const objectSchema = z.looseObject({
  apiVersion: z.string(),
  kind: z.string(),
  // Without a namespace, so that it is whoever applies it who chooses.
  metadata: z.strictObject({ name: z.string() }),
});
const namesSchema = z.array(z.looseObject({ name: z.string() })).transform((all) => all.map(({ name }) => name));
const valuesSchema = z.looseObject({
  storageClasses: namesSchema,
  snapshotClasses: namesSchema,
  volumeAttributesClasses: namesSchema,
});

/** What the API server adds to an object. */
const stored = { uid: 'any', resourceVersion: '1', generation: 1, creationTimestamp: '2026-01-02T03:04:05Z' };

const textOf = (file: string) => readFileSync(path.join(directory, file), 'utf8');

function objectsOf(file: string) {
  // As kubectl reads it, in which a bare `off` is false.
  return parseAllDocuments(textOf(file), { version: '1.1' }).map((document) => {
    expect(document.errors).toEqual([]);
    return objectSchema.parse(document.toJS());
  });
}

/** All values of a field, however deep it is. */
function valuesOf(field: string, value: unknown): unknown[] {
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) => (key === field ? [inner] : valuesOf(field, inner)));
}

describe('examples/', () => {
  it('has a line in its README for each file, in no other place', () => {
    const listed = [...textOf('README.md').matchAll(/^\| \[([\w-]+\.yaml)\]/gm)].map(([, file]) => file);
    expect(listed.toSorted()).toEqual(files.toSorted());
  });

  it.each(files)('%s says at its top what it is, and holds objects with a name', (file) => {
    expect(textOf(file)).toMatch(/^# [A-Z]/);
    expect(objectsOf(file).length).toBeGreaterThan(0);
  });

  it.each(files)('%s asks only for classes that the chart makes by itself, or that it makes itself', (file) => {
    const values = valuesSchema.parse(parse(readFileSync(path.join(chartDirectory, 'values.yaml'), 'utf8')));
    const objects = objectsOf(file);
    const known = (kind: string, byChart: string[]) => [
      ...byChart,
      ...objects.filter((object) => object.kind === kind).map(({ metadata }) => metadata.name),
    ];
    const unknown = (field: string, names: string[]) =>
      objects.flatMap((object) => valuesOf(field, object)).filter((name) => !names.includes(String(name)));
    expect(unknown('storageClassName', known('StorageClass', values.storageClasses))).toEqual([]);
    expect(unknown('volumeSnapshotClassName', known('VolumeSnapshotClass', values.snapshotClasses))).toEqual([]);
    const attributes = known('VolumeAttributesClass', values.volumeAttributesClasses);
    expect(unknown('volumeAttributesClassName', attributes)).toEqual([]);
    for (const { kind, spec } of objects)
      if (kind === 'PersistentVolumeClaim') expect(spec).toHaveProperty('storageClassName');
  });

  it.each(files)('%s holds what the driver understands', (file) => {
    const objects = objectsOf(file);
    for (const { kind, provisioner, driverName: driver, parameters = {} } of objects) {
      if (kind === 'StorageClass') {
        expect(provisioner).toBe(driverName);
        parseVolumeParameters(parameters as Record<string, string>);
      }
      if (kind === 'VolumeAttributesClass') {
        expect(driver).toBe(driverName);
        parseMutableParameters(parameters as Record<string, string>);
      }
    }
    for (const object of objects.filter(({ apiVersion }) => apiVersion === groupVersion)) {
      const { parse: parseObject } = object.kind === 'DiskImage' ? diskImages : diskSnapshots;
      parseObject({ ...object, metadata: { ...object.metadata, ...stored, namespace: 'default' } });
    }
  });

  it('names what another file makes where that is needed', () => {
    const all = files.flatMap(objectsOf);
    const sources = all.flatMap((object) => valuesOf('dataSource', object));
    const wanted = z.array(z.looseObject({ kind: z.string(), name: z.string() })).parse(sources);
    const claims = all.flatMap((object) => valuesOf('persistentVolumeClaimName', object));
    const there = all.map(({ kind, metadata }) => `${kind} ${metadata.name}`);
    expect(there).toEqual(expect.arrayContaining(wanted.map(({ kind, name }) => `${kind} ${name}`)));
    expect(there).toEqual(expect.arrayContaining(claims.map((name) => `PersistentVolumeClaim ${String(name)}`)));
    expect(new Set(there).size).toBe(there.length);
  });
});
