-- SPDX-License-Identifier: GPL-3.0-or-later
-- Which containers are database containers, and which execs are plain ones: decisions over documents, nothing else.
-- They are those of the agent's actions/discovery.py, which a test holds them to.

local cjson = require("cjson")

local rules = {}

local LABEL = "scalr.backup"

-- Everything that the body of an exec may say, and how. "Privileged" may only be said to be false.
local function is_boolean(value) return type(value) == "boolean" end
local function is_empty(value) return value == "" end
local function is_false(value) return value == false end
local function is_strings(value)
  if value == cjson.null then return true end
  if type(value) ~= "table" then return false end
  local count = 0
  for _ in pairs(value) do count = count + 1 end
  for number = 1, count do
    if type(value[number]) ~= "string" then return false end
  end
  return true
end

local EXEC = {
  AttachStdin = is_boolean,
  AttachStdout = is_boolean,
  AttachStderr = is_boolean,
  Cmd = is_strings,
  -- The SDK repeats it; the engine reads the path's.
  Container = function(value) return type(value) == "string" end,
  Detach = is_false,
  DetachKeys = is_empty,
  Env = is_strings,
  Privileged = is_false,
  Tty = is_false,
  User = is_empty,
  WorkingDir = is_empty,
}

function rules.is_id(reference) return #reference == 64 and not reference:find("[^0-9a-f]") end

-- The name of a container: with links it has further ones, of the form /other/alias.
local function name_of(summary)
  for _, name in ipairs(type(summary.Names) == "table" and summary.Names or {}) do
    local own = name:match("^/([^/]+)$")
    if own then return own end
  end
  return ""
end

-- Out of what the engine found, the one container that is exactly meant.
function rules.only(found, reference)
  local summary = found[1]
  if #found ~= 1 or type(summary.Id) ~= "string" or not rules.is_id(summary.Id) then return nil end
  local own = rules.is_id(reference) and summary.Id or name_of(summary)
  return own == reference and summary or nil
end

-- A character class of a glob, such as "!a-c_" for [!a-c_].
local function in_class(class, character)
  local negated = class:sub(1, 1) == "!"
  local position, within = negated and 2 or 1, false
  while position <= #class do
    local first, last = class:sub(position, position), class:sub(position, position)
    if class:sub(position + 1, position + 1) == "-" and position + 2 <= #class then
      last = class:sub(position + 2, position + 2)
      position = position + 2
    end
    within = within or (first <= character and character <= last)
    position = position + 1
  end
  return within ~= negated
end

-- The end of the class that begins at a position with "[", or nil where none ends.
local function class_end(glob, position)
  local from = position + 1
  if glob:sub(from, from) == "!" then from = from + 1 end
  return glob:find("]", from + 1, true)
end

-- Whether a name fits a glob, as Python's fnmatchcase says.
function rules.fits(name, glob)
  glob = glob:gsub("%*+", "*")
  local function from(name_at, glob_at)
    if glob_at > #glob then return name_at > #name end
    local sign = glob:sub(glob_at, glob_at)
    if sign == "*" then
      for next_at = name_at, #name + 1 do
        if from(next_at, glob_at + 1) then return true end
      end
      return false
    end
    if name_at > #name then return false end
    local character, ends = name:sub(name_at, name_at), sign == "[" and class_end(glob, glob_at)
    if ends then
      return in_class(glob:sub(glob_at + 1, ends - 1), character) and from(name_at + 1, ends + 1)
    end
    return (sign == "?" or sign == character) and from(name_at + 1, glob_at + 1)
  end
  return from(1, 1)
end

local function fits_any(name, globs)
  for _, glob in ipairs(globs or {}) do
    if rules.fits(name, glob) then return true end
  end
  return false
end

-- Why the agent may not look into a container, or nil where it may. Names and globs hold nothing that JSON would quote.
function rules.obstacle(summary, configuration)
  local name = name_of(summary)
  local labels = type(summary.Labels) == "table" and summary.Labels or {}
  local label = type(labels[LABEL]) == "string" and labels[LABEL]:lower() or ""
  if label == "true" then return nil end
  if label == "false" then
    return "The agent may not look into " .. name .. ", whose label " .. LABEL .. " is false; make it true, or take it away."
  end
  if fits_any(name, configuration.exclude) then
    return "The agent may not look into " .. name .. ", which backup_exclude names; take it out of there."
  end
  if fits_any(name, configuration.containers) then return nil end
  return "The agent may not look into " .. name .. ", which is none of its database containers; give it the label " .. LABEL
    .. "=true, or let backup_containers name it."
end

-- The keys of a JSON object as they are spelled in its text, one that is there twice twice. Only for text that is valid.
local function spelled_keys(text)
  local keys, depth, position, expected = {}, 0, 1, false
  while position <= #text do
    local sign = text:sub(position, position)
    if sign == '"' then
      local ends = position + 1
      while text:sub(ends, ends) ~= '"' do
        ends = ends + (text:sub(ends, ends) == "\\" and 2 or 1)
      end
      if depth == 1 and expected then keys[#keys + 1] = text:sub(position + 1, ends - 1) end
      expected, position = false, ends
    elseif sign == "{" or sign == "[" then
      depth, expected = depth + 1, sign == "{"
    elseif sign == "}" or sign == "]" then
      depth = depth - 1
    elseif sign == "," then
      expected = true
    end
    position = position + 1
  end
  return keys
end

-- Why the body of an exec is not a plain one's, or nil where it is. The engine takes keys in any case, and the last of two:
-- so each key has to be spelled as it is here, and once.
function rules.exec_obstacle(body)
  local decoded, document = pcall(cjson.decode, body)
  if not decoded or type(document) ~= "table" or not body:match("^%s*{") then return "The body of an exec is no JSON object." end
  local seen = {}
  for _, key in ipairs(spelled_keys(body)) do
    if not EXEC[key] then return "The agent may only say in an exec what to run: one of its keys is another." end
    if seen[key] then return "The body of an exec says " .. key .. " twice." end
    seen[key] = true
    if not EXEC[key](document[key]) then return "The agent may not set " .. key .. " so in an exec." end
  end
  return nil
end

return rules
