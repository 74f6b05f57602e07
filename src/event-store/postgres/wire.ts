// How a flush travels: arrays in PostgreSQL's binary format, because text would escape and double every byte.

import type { NewEvent } from "../event-store.ts";

/** An append as the flush carries it. */
export type WireAppend = { readonly stream: string; readonly expected: number; readonly events: readonly NewEvent[] };

// Type numbers of PostgreSQL's catalogue; they never change.
const INT4 = 23;
const TEXT = 25;
const BYTEA = 17;
const UUID = 2950;
const ARRAY_HEADER = 20;
const LENGTH = 4;

/**
 * The parameters of a flush for `log.append_v2`. Appends of one stream must stand side by side, each expecting what the
 * one before leaves.
 */
export function encodeFlush(appends: readonly WireAppend[]): Buffer[] {
  const flat = appends.flatMap((append) => append.events);
  const owners = appends.flatMap((append, index) => append.events.map((_, nth) => ({ append, index, nth })));
  let skipped = 0;
  const skips = appends.map((append, index) => {
    const before = appends[index - 1];
    skipped = before?.stream === append.stream ? skipped + before.events.length : 0;
    return skipped;
  });
  return [
    textArray(appends.map((append) => append.stream)),
    intArray(appends.map((append) => append.expected)),
    intArray(skips),
    intArray(appends.map((append) => append.events.length)),
    intArray(owners.map((owner) => owner.index + 1)),
    textArray(owners.map((owner) => owner.append.stream)),
    intArray(owners.map((owner) => owner.append.expected + 1 + owner.nth)),
    uuidArray(flat.map((event) => event.id)),
    textArray(flat.map((event) => event.type)),
    bytesArray(flat.map((event) => event.data)),
    bytesArray(flat.map((event) => event.metadata)),
  ];
}

/** One dimension, no nulls, subscripts from 1. */
function arrayOf(type: number, count: number, bytes: number): Buffer {
  const array = Buffer.allocUnsafe(ARRAY_HEADER + count * LENGTH + bytes);
  array.writeInt32BE(1, 0);
  array.writeInt32BE(0, 4);
  array.writeInt32BE(type, 8);
  array.writeInt32BE(count, 12);
  array.writeInt32BE(1, 16);
  return array;
}

function intArray(values: readonly number[]): Buffer {
  const array = arrayOf(INT4, values.length, values.length * 4);
  let at = ARRAY_HEADER;
  for (const value of values) {
    array.writeInt32BE(4, at);
    at = array.writeInt32BE(value, at + LENGTH);
  }
  return array;
}

function textArray(values: readonly string[]): Buffer {
  let bytes = 0;
  for (const value of values) bytes += Buffer.byteLength(value);
  const array = arrayOf(TEXT, values.length, bytes);
  let at = ARRAY_HEADER;
  for (const value of values) {
    const length = array.write(value, at + LENGTH, "utf8");
    array.writeInt32BE(length, at);
    at += LENGTH + length;
  }
  return array;
}

function uuidArray(values: readonly string[]): Buffer {
  const array = arrayOf(UUID, values.length, values.length * 16);
  let at = ARRAY_HEADER;
  for (const value of values) {
    array.writeInt32BE(16, at);
    array.write(value.replaceAll("-", ""), at + LENGTH, "hex");
    at += LENGTH + 16;
  }
  return array;
}

function bytesArray(values: readonly Uint8Array[]): Buffer {
  let bytes = 0;
  for (const value of values) bytes += value.byteLength;
  const array = arrayOf(BYTEA, values.length, bytes);
  let at = ARRAY_HEADER;
  for (const value of values) {
    array.writeInt32BE(value.byteLength, at);
    array.set(value, at + LENGTH);
    at += LENGTH + value.byteLength;
  }
  return array;
}
