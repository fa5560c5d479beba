/** Records that users made, in Lua: only where nothing is in the way. */
import { putAndNotify, script } from "./lua.js"

const insertion = `${putAndNotify}
local function inTheWay(key, token)
  local state, unreadable = load(key)
  if unreadable then return unreadable end
  if not state or state.tag == 'R' then return nil, state end
  if state.tag == 'C' and state.token == token then return { 'I' } end
  return { 'C' }
end

local function verb(key, token, kind, fingerprint, attempt, created, till, retention, payload)
  local reply, released = inTheWay(key, token)
  if reply then return reply end
  if released then attempt = math.max(attempt, released.attempt) end
  putAndNotify(key, {
    tag = 'C', token = token, attempt = attempt, created = created, till = till, retention = 0, unknown = 0,
    detail = kind, fingerprint = fingerprint, payload = payload
  }, retention)
  return { 'I' }
end
`

export const insert = script(insertion)

/** First looks whether anything is in the way, and answers so without a change. */
export const insertTogether = script(
  insertion,
  `
local blocked, looks = false, {}
for index, key in ipairs(KEYS) do
  looks[index] = inTheWay(key, ARGV[(index - 1) * #ARGV / #KEYS + 1]) or { 'I' }
  blocked = blocked or looks[index][1] ~= 'I'
end
if blocked then return looks end
`
)
