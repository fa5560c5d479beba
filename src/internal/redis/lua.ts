/**
 * The protocol of `transition.ts` in Lua, run by the server: each verb is a function of one key and its arguments.
 *
 * A stored value is a header of ten fields, a line feed, and the payload as it came:
 *
 *     1 <state> <token> <attempt> <createdAt> <until> <retention> <unknownRetention> <detail> <fingerprint>
 *
 * | state          | until       | detail                                         | payload    |
 * | -------------- | ----------- | ---------------------------------------------- | ---------- |
 * | `P` Processing | lease's end | guarantee: `l` at-least-once, `m` at-most-once | steps      |
 * | `U` Unknown    | 0           | guarantee, then `l` lapsed or `h` held         | steps      |
 * | `C` Completed  | `expiresAt` | `s` success, `f` failure, `u` unavailable      | the result |
 * | `R` Released   | 0           | -                                              | steps      |
 *
 * 0 and `-` stand for what is absent. The retention of a record is the time to live of its key. A step is
 * `<units of name> <units of result> <bytes of name> <bytes of result>`, a line feed, the name, the result; units are
 * those of UTF-16, which JavaScript counts, and bytes those of UTF-8, which Lua counts.
 *
 * The scripts are on every hot path: fields stay the strings that they are stored as until they are counted with, and
 * a script holds no function that it does not call.
 */
import { maxSteps, maxStepsLength } from "../protocol.js"

export const time = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
`

/** The fields of the header that `raw` begins with, where the payload is, and whether this version reads them. */
export const fields = `local tag, token, attempt, created, till, retention, unknown, detail, fingerprint, at = string.match(
    raw, '^1 ([PUCR]) ([^ \\n]+) (%d+) (%-?%d+) (%-?%d+) (%d+) (%d+) ([%l%-]+) ([^ \\n]+)\\n()')
  local isKnown = (tag == 'C' and (detail == 's' or detail == 'f' or detail == 'u')
    or tag == 'P' and (detail == 'l' or detail == 'm')
    or tag == 'R' and detail == '-'
    or tag == 'U' and string.find(detail, '^[lm][lh]$'))
    and #attempt <= 14 and #retention <= 14 and #unknown <= 14
    and #(string.gsub(created, '-', '')) <= 15 and #(string.gsub(till, '-', '')) <= 15`

/** `load` answers the state, or nothing and, if what is stored cannot be read, the reply that says so. */
const state = `${time}
local function unitsOf(text)
  if not string.find(text, '[\\128-\\255]') then return #text end
  local _, characters = string.gsub(text, '[^\\128-\\191]', '')
  local _, pairs = string.gsub(text, '[\\240-\\247]', '')
  return characters + pairs
end

local function walk(payload, visit)
  local at, count, units = 1, 0, 0
  while at <= #payload do
    local nameUnits, resultUnits, nameBytes, resultBytes, start = string.match(payload, '^(%d+) (%d+) (%d+) (%d+)\\n()', at)
    if not start then return nil end
    local middle = start + nameBytes
    local ending = middle + resultBytes
    if ending > #payload + 1 then return nil end
    local name = string.sub(payload, start, middle - 1)
    if unitsOf(name) ~= tonumber(nameUnits) then return nil end
    if unitsOf(string.sub(payload, middle, ending - 1)) ~= tonumber(resultUnits) then return nil end
    if visit then visit(name) end
    count, units, at = count + 1, units + nameUnits + resultUnits, ending
  end
  return count, units
end

local function load(key)
  local raw = redis.pcall('GET', key)
  if not raw then return nil end
  if type(raw) == 'table' then
    if string.find(raw.err, '^WRONGTYPE') then return nil, { 'X', 'the key holds a value of another type' } end
    error(raw.err, 0)
  end
  ${fields}
  if isKnown then
    if tag == 'C' and tonumber(till) <= now then return nil end
    local payload = ''
    if tag ~= 'C' and at <= #raw then
      payload = string.sub(raw, at)
      if not walk(payload) then return nil, { 'X', 'the steps cannot be read' } end
    end
    return {
      tag = tag, token = token, attempt = attempt, created = created, till = till, retention = retention,
      unknown = unknown, detail = detail, fingerprint = fingerprint, payload = payload, raw = raw
    }
  end
  return nil, { 'X', 'the value is not a record of this version' }
end
`

/** Without a time to live the key keeps its own. The server keeps a key for its last millisecond, the protocol does not. */
const put = `
local function put(key, state, timeToLive)
  local value = '1 ' .. state.tag .. ' ' .. state.token .. ' ' .. state.attempt .. ' ' .. state.created .. ' ' ..
    state.till .. ' ' .. state.retention .. ' ' .. state.unknown .. ' ' .. state.detail .. ' ' .. state.fingerprint ..
    '\\n' .. state.payload
  if timeToLive then
    redis.call('SET', key, value, 'PXAT', now + math.max(1, timeToLive) - 1)
  else
    redis.call('SET', key, value, 'KEEPTTL')
  end
end
`

/** What a waiter waits for ends with a message on the channel of the key's name, whose failure is its own. */
export const putAndNotify = `${put}
local function putAndNotify(key, state, timeToLive)
  put(key, state, timeToLive)
  redis.pcall('PUBLISH', key, '')
end
`

const fingerprints = `
local function differ(one, other) return one ~= other and one ~= '-' and other ~= '-' end
`

const held = `
local function isHeld(state) return state.tag == 'U' and string.sub(state.detail, 2) == 'h' end
`

const processing = `
local function processingTime(state, lease)
  if state.detail == 'm' then return state.unknown end
  return math.max(state.retention, 2 * lease)
end
`

const toUnknown = `
local function toUnknown(key, state, reason)
  state.tag, state.till, state.detail = 'U', 0, string.sub(state.detail, 1, 1) .. reason
  putAndNotify(key, state, state.unknown)
end
`

const toReleased = `
local function toReleased(key, state)
  local timeToLive = state.retention
  if state.tag == 'C' then
    timeToLive, state.retention = nil, math.min(math.max(0, state.till - state.created), 1e13)
  end
  if state.payload == '' then state.fingerprint = '-' end
  state.tag, state.till, state.unknown, state.detail = 'R', 0, 0, '-'
  putAndNotify(key, state, timeToLive)
end
`

const toCompleted = `
local function toCompleted(key, state, token, kind, fingerprint, retention, payload)
  local attempt = 1
  if state then
    attempt = state.attempt
    if fingerprint == '-' then fingerprint = state.fingerprint end
  end
  local till = now + retention
  putAndNotify(key, {
    tag = 'C', token = token, attempt = attempt, created = now, till = till, retention = 0, unknown = 0,
    detail = kind, fingerprint = fingerprint, payload = payload
  }, retention)
  return { 'D', attempt, now, till }
end
`

/** Runs `verb` over the members of a call, each failing alone. */
export const forEachMember = `
local width = #ARGV / #KEYS
local replies = {}
for index = 1, #KEYS do
  local ok, reply = pcall(verb, KEYS[index], unpack(ARGV, (index - 1) * width + 1, index * width))
  if not ok then
    -- Servers before 7 say where in the script a command was refused.
    local why = string.gsub(type(reply) == 'table' and reply.err or tostring(reply), '^@user_script: ?%d+: %-?', '')
    -- Then no member has written; and the client has to hear it, to look for the primary.
    if string.sub(why, 1, 9) == 'READONLY ' then return redis.error_reply((string.gsub(why, '%s+$', ''))) end
    reply = { 'E', why }
  end
  replies[index] = reply
end
return replies
`

export const script = (...parts: ReadonlyArray<string>): string => [state, ...parts, forEachMember].join("")

export const claim = script(
  putAndNotify,
  fingerprints,
  held,
  processing,
  toUnknown,
  `
local function own(key, attempt, payload, guarantee, token, fingerprint, lease, retention, unknown)
  local state = {
    tag = 'P', token = token, attempt = attempt, created = now, till = now + lease, retention = retention,
    unknown = unknown, detail = guarantee, fingerprint = fingerprint, payload = payload
  }
  put(key, state, processingTime(state, lease))
  return { 'C', attempt, payload }
end

local function verb(key, token, fingerprint, guarantee, lease, retention, unknown)
  local state, unreadable = load(key)
  if unreadable then return unreadable end
  if not state then return own(key, 1, '', guarantee, token, fingerprint, lease, retention, unknown) end
  if state.tag == 'R' and state.token == token then return { 'R' } end
  if differ(state.fingerprint, fingerprint) then return { 'M' } end
  if state.tag == 'C' then return { 'S', state.raw } end
  if state.tag ~= 'R' then
    if state.token == token and not isHeld(state) then
      state.tag, state.till, state.detail = 'P', now + lease, string.sub(state.detail, 1, 1)
      put(key, state, processingTime(state, lease))
      return { 'A', state.attempt, state.payload }
    end
    if state.tag == 'U' then return { 'U', state.attempt } end
    local remaining = state.till - now
    if remaining > 0 then return { 'I', remaining } end
    if state.detail == 'm' then
      toUnknown(key, state, 'l')
      return { 'U', state.attempt }
    end
    guarantee = 'l'
  end
  if fingerprint == '-' then fingerprint = state.fingerprint end
  return own(key, state.attempt + 1, state.payload, guarantee, token, fingerprint, lease, retention, unknown)
end
`
)

export const renew = script(
  put,
  processing,
  `
local function verb(key, token, lease)
  local state, unreadable = load(key)
  if unreadable then return unreadable end
  if not state then return { 'G' } end
  if state.tag ~= 'P' or state.token ~= token then return { 'L', state.tag == 'C' and state.raw } end
  state.till = now + lease
  put(key, state, processingTime(state, lease))
  return { 'R' }
end
`
)

/** What this token has completed is written again as it is: `WAIT` confirms only what its own connection has written. */
export const complete = script(
  putAndNotify,
  fingerprints,
  toCompleted,
  `
local function verb(key, token, kind, fingerprint, retention, payload)
  local state, unreadable = load(key)
  if unreadable then return unreadable end
  if state then
    local mine = state.token == token
    if state.tag == 'C' then
      if mine then
        redis.pcall('SET', key, state.raw, 'KEEPTTL')
        return { 'D', state.attempt, state.created, state.till }
      end
      if differ(state.fingerprint, fingerprint) then return { 'M' } end
      return { 'S', state.raw }
    end
    if (state.tag == 'R') == mine then return { 'S', false } end
  end
  return toCompleted(key, state, token, kind, fingerprint, retention, payload)
end
`
)

export const release = script(
  putAndNotify,
  held,
  toReleased,
  `
local function verb(key, token)
  local state, unreadable = load(key)
  if unreadable then return unreadable end
  if not state or state.token ~= token or state.tag == 'C' or isHeld(state) then return { 'N' } end
  if state.tag ~= 'R' then toReleased(key, state) end
  return { 'R' }
end
`
)

export const hold = script(
  putAndNotify,
  held,
  toUnknown,
  `
local function verb(key, token)
  local state, unreadable = load(key)
  if unreadable then return unreadable end
  if not state or state.token ~= token then return { 'N' } end
  if state.tag == 'P' then
    toUnknown(key, state, 'h')
    return { 'H' }
  end
  return { isHeld(state) and 'H' or 'N' }
end
`
)

export const saveStep = script(
  put,
  `
local function verb(key, token, name, result, nameUnits, resultUnits)
  local state, unreadable = load(key)
  if unreadable then return unreadable end
  if not state or state.tag ~= 'P' or state.token ~= token then return { 'N' } end
  local known = false
  local count, units = walk(state.payload, function(other) known = known or other == name end)
  if known then return { 'S' } end
  if count + 1 > ${maxSteps} or units + nameUnits + resultUnits > ${maxStepsLength} then return { 'T' } end
  local sizes = nameUnits .. ' ' .. resultUnits .. ' ' .. #name .. ' ' .. #result
  state.payload = state.payload .. sizes .. '\\n' .. name .. result
  put(key, state)
  return { 'S' }
end
`
)

export const resolve = script(
  putAndNotify,
  toCompleted,
  `
local function verb(key, token, kind, payload)
  local state, unreadable = load(key)
  if unreadable then return unreadable end
  if not state or state.tag == 'R' then return { 'N' } end
  if state.tag == 'C' then return { state.token == token and 'R' or 'N' } end
  local remaining = state.tag == 'P' and state.till - now or 0
  if remaining > 0 then return { 'I', remaining } end
  toCompleted(key, state, token, kind, '-', state.retention, payload)
  return { 'R' }
end
`
)

export const reset = script(
  putAndNotify,
  toReleased,
  `
local function verb(key, force)
  local state, unreadable = load(key)
  if unreadable then
    redis.call('DEL', key)
    redis.pcall('PUBLISH', key, '')
    return { 'R' }
  end
  if not state then return { 'A' } end
  local remaining = state.tag == 'P' and state.till - now or 0
  if remaining > 0 and force ~= '1' then return { 'I', remaining } end
  if state.tag ~= 'R' then toReleased(key, state) end
  return { 'R' }
end
`
)

/** Before Redis 7 the server knows only what is left of a key's life. A key that was made to stay has no end. */
export const read = script(`
local function verb(key)
  local state, unreadable = load(key)
  if unreadable then return unreadable end
  if not state then return { 'N' } end
  local expiry = redis.pcall('PEXPIRETIME', key)
  if type(expiry) == 'table' then expiry = now + redis.call('PTTL', key) end
  if expiry < now then expiry = now + state.retention else expiry = expiry + 1 end
  return { 'V', state.raw, now, expiry }
end
`)

export const remove = script(`
local function verb(key)
  local state = load(key)
  if not state or state.tag ~= 'C' then return { 'N' } end
  redis.call('DEL', key)
  return { 'R' }
end
`)

/** Changes nothing, but asks for every permission that the verbs need: all but that for notifications, which are hints. */
export const probe = script(`
local function verb(key)
  load(key)
  redis.call('SET', key, '', 'XX', 'PX', '1')
  if type(redis.pcall('PEXPIRETIME', key)) == 'table' then redis.call('PTTL', key) end
  redis.call('DEL', key)
  return { 'R' }
end
`)
