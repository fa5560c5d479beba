/**
 * "JSON by type": which results can be recorded without a `success` schema.
 *
 * @since 0.1.0
 */
import type { BrandTypeId } from "effect/Brand"
import type * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"

/**
 * Any JSON value (RFC 8259).
 *
 * @since 0.1.0
 * @category models
 */
export type Json = string | number | boolean | null | ReadonlyArray<Json> | { readonly [key: string]: Json }

/**
 * Shown by the compiler in place of a part that JSON would lose.
 *
 * @since 0.1.0
 * @category models
 */
export interface NotJson<Why extends string> {
  readonly "this result needs a `success` schema": Why
}

type AnyFunction = (...args: never) => unknown

/**
 * `A`, with every part that JSON would lose replaced by {@link NotJson}. `A` is JSON by type if it is assignable to
 * `Jsonable<A>`: interfaces, optional properties, tuples, enums, brands, records, recursive types and `void` are;
 * `Date`, `Map`, `Set`, `bigint`, `symbol`, functions, `Option`, `Uint8Array`, `unknown` and instances with methods
 * are not.
 *
 * @since 0.1.0
 * @category models
 */
// biome-ignore lint/suspicious/noConfusingVoidType: `void` is what an effect without a result succeeds with
export type Jsonable<A> = JsonableIn<A, undefined | void>

/**
 * {@link Jsonable} where `Absent` is what may stand for "nothing there" in this position.
 *
 * @since 0.1.0
 * @category models
 */
export type JsonableIn<A, Absent> = unknown extends A
  ? 0 extends 1 & A
    ? A
    : NotJson<"unknown may not be JSON">
  : A extends Json | Absent
    ? A
    : // biome-ignore lint/suspicious/noConfusingVoidType: as above
      A extends undefined | void
      ? NotJson<"undefined in an array comes back as null">
      : A extends bigint
        ? NotJson<"JSON has no bigint">
        : A extends symbol
          ? NotJson<"JSON has no symbol">
          : A extends AnyFunction
            ? NotJson<"JSON has no functions: is this a class instance?">
            : A extends Date
              ? NotJson<"a Date comes back as a string">
              : A extends ReadonlyArray<unknown>
                ? { readonly [K in keyof A]: JsonableIn<A[K], never> }
                : [keyof A] extends [never]
                  ? NotJson<"an object type without properties may not be JSON">
                  : {
                      readonly [K in keyof A]: K extends typeof BrandTypeId
                        ? A[K]
                        : K extends symbol
                          ? NotJson<"JSON has no symbol keys: is this a class instance?">
                          : JsonableIn<A[K], undefined>
                    }

/**
 * `unknown` if `A` is JSON by type; else an effect of what JSON would lose, which no effect of `A` is assignable to.
 *
 * @since 0.1.0
 * @category models
 */
export type RecordableAsJson<A> = [A] extends [Jsonable<A>] ? unknown : Effect.Effect<Jsonable<A>, unknown, unknown>

/**
 * What an effect's result must satisfy to be recorded: the `success` schema's type where there is one, else
 * JSON by type.
 *
 * @since 0.1.0
 * @category models
 */
export type Recordable<Success extends Schema.Schema.Any | undefined, A> = [Success] extends [undefined]
  ? RecordableAsJson<A>
  : Effect.Effect<Schema.Schema.Type<Success>, unknown, unknown>

/**
 * What a fingerprint may be made of: JSON by type, or bytes.
 *
 * @since 0.1.0
 * @category models
 */
export type FingerprintInput<F> = [F] extends [Uint8Array] ? F : [F] extends [Jsonable<F>] ? F : Jsonable<F>
