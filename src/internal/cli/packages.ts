/** The peers whose newest versions are, or may come to be, for another line of Effect: as `package.json` has them. */
export const peerVersions: Readonly<Record<string, string>> = {
  "@effect/cli": "0.77",
  "@effect/platform": "0.97",
  "@effect/platform-node": "0.108",
  "@effect/sql": "0.52",
  "@effect/sql-mysql2": "0.53",
  "@effect/sql-pg": "0.53",
  "@effect/sql-sqlite-node": "0.53"
}

/** How packages that are missing are installed. */
export const install = (packages: ReadonlyArray<string>): string =>
  `npm install ${packages.map((name) => (peerVersions[name] === undefined ? name : `${name}@${peerVersions[name]}`)).join(" ")}`
