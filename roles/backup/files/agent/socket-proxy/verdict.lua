-- SPDX-License-Identifier: GPL-3.0-or-later
-- How Lua tells HAProxy what it has found out about a call.
--
-- A call passes only with a verdict that names this very call, which is the last thing that an action sets: where Lua fails
-- before it, for lack of memory or time or by a mistake, there is none. HAProxy compares it with the call it is about to send.

local verdict = {}

-- A sentence that stands in a JSON string as it is.
local function sayable(reason) return (reason:sub(1, 600):gsub('["\\]', "'"):gsub("[^%w%p ]", "?")) end

-- The call may go on, if it is then this method and this path.
function verdict.pass(txn, method, path) txn:set_var("txn.verdict", method .. " " .. path) end

-- What the proxy itself answers with.
function verdict.tell(txn, words) txn:set_var("txn.told", sayable(words)) end

-- Refuse a call. *kind* says what it is counted as: call, container, look, exec, unjudged; gone and unanswered are not counted.
function verdict.refuse(txn, kind, reason)
  txn:set_var("txn.reason", sayable(reason))
  txn:set_var("txn.kind", kind)
end

return verdict
