/** What a list tells of its keys, in Lua: their headers alone. */
import { fields, forEachMember, time } from "./lua.js"

/** The longest header that is looked for at first, and at all, in bytes: that of a token and a fingerprint of any sense. */
const headers = [1_024, 65_536] as const

/** What `read` would say but for the payload, which stays unread: it may be long, and its steps unreadable. */
export const list = [
  time,
  `
local function verb(key)
  local expiry = redis.pcall('PEXPIRETIME', key)
  if type(expiry) == 'table' then
    expiry = redis.call('PTTL', key)
    if expiry >= 0 then expiry = now + expiry end
  end
  if expiry == -2 then return { 'N', now } end
  local raw, ending
  for _, length in ipairs({ ${headers.join(", ")} }) do
    raw = redis.pcall('GETRANGE', key, 0, length - 1)
    if type(raw) == 'table' then
      if string.find(raw.err, '^WRONGTYPE') then return { 'X', 'the key holds a value of another type', now } end
      error(raw.err, 0)
    end
    ending = string.find(raw, '\\n', 1, true)
    if ending or #raw < length then break end
  end
  raw = string.sub(raw, 1, ending or 0)
  ${fields}
  if not isKnown then return { 'X', 'the value is not a record of this version', now } end
  if tag == 'C' and tonumber(till) <= now then return { 'N', now } end
  if expiry < now then expiry = now + retention else expiry = expiry + 1 end
  return { 'V', raw, now, expiry }
end
`,
  forEachMember
].join("")
