-- SPDX-License-Identifier: GPL-3.0-or-later
-- Which containers are database containers, and which execs are plain ones: decisions over documents, nothing else.
-- They are those of the agent's actions/discovery.py, which a test holds them to.

local cjson = require("cjson")

local rules = {}

local LABEL = "scalr.backup"

-- Everything that the body of an exec, or of its start, may say, and how: what the agent says, nothing else.
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
  Env = is_strings,
  Privileged = is_false,
  Tty = is_false,
  User = is_empty,
}
local START = { Detach = is_false, Tty = is_false }

rules.is_strings = is_strings

function rules.is_id(reference) return #reference == 64 and not reference:find("[^0-9a-f]") end

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

-- Whether a name fits a glob, as Python's fnmatchcase says. It goes back to the last star only: no glob takes longer than
-- its length times the name's.
function rules.fits(name, glob)
  local name_at, glob_at, star_at, starred_at = 1, 1, nil, nil
  while name_at <= #name do
    local sign = glob:sub(glob_at, glob_at)
    local ends = sign == "[" and class_end(glob, glob_at)
    local character = name:sub(name_at, name_at)
    if sign == "*" then
      star_at, starred_at, glob_at = glob_at, name_at, glob_at + 1
    elseif ends and in_class(glob:sub(glob_at + 1, ends - 1), character) then
      name_at, glob_at = name_at + 1, ends + 1
    elseif not ends and (sign == "?" or sign == character) then
      name_at, glob_at = name_at + 1, glob_at + 1
    elseif star_at then
      starred_at = starred_at + 1
      name_at, glob_at = starred_at, star_at + 1
    else
      return false
    end
  end
  return glob:find("^%**$", glob_at) ~= nil
end

local function fits_any(name, globs)
  for _, glob in ipairs(globs or {}) do
    if rules.fits(name, glob) then return true end
  end
  return false
end

-- Why the agent may not look into a container of this name and these labels, or nil where its patterns let it.
function rules.obstacle(name, labels, configuration)
  labels = type(labels) == "table" and labels or {}
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

-- Why a body is not one of these keys, each in its way, or nil where it is. The engine takes keys in any case, and the last of
-- two: so each key has to be spelled as it is here, and once.
local function body_obstacle(body, allowed)
  local decoded, document = pcall(cjson.decode, body)
  if not decoded or type(document) ~= "table" or not body:match("^%s*{") then return "The body of an exec is no JSON object." end
  local seen = {}
  for _, key in ipairs(spelled_keys(body)) do
    if not allowed[key] then return "The agent may only say in an exec what to run: one of its keys is another." end
    if seen[key] then return "The body of an exec says " .. key .. " twice." end
    seen[key] = true
    if not allowed[key](document[key]) then return "The agent may not set " .. key .. " so in an exec." end
  end
  return nil
end

function rules.exec_obstacle(body) return body_obstacle(body, EXEC) end
function rules.start_obstacle(body) return body_obstacle(body, START) end

-- Whether an exec is one that the agent may have made, by what the engine says of its process.
function rules.is_plain_process(process)
  if type(process) ~= "table" then return false end
  local user = process.user
  return process.tty == false and process.privileged ~= true and (user == nil or user == cjson.null or user == "")
end

return rules
