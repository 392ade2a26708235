-- What the door does that HAProxy's own rules cannot; haproxy.cfg loads it.

-- A client that still sends when its connection ends sees a broken pipe instead of the answer.
-- `http-request return` ends it; a service has HAProxy read and throw away what the client goes on
-- to send.
core.register_service("body-too-large", "http", function(applet)
    local limit = applet:get_var("txn.body_max")
    local body = '{"type":"about:blank","title":"Content Too Large","status":413,"detail":'
        .. '"a body may have at most ' .. limit .. ' bytes","code":"body_too_large"}'
    applet:set_status(413)
    applet:add_header("content-type", "application/problem+json")
    applet:add_header("content-length", #body)
    applet:add_header("connection", "close")
    applet:start_response()
    applet:send(body)
end)

-- Edge networks put names of cities into fields. A replica's library closes the connection over
-- such a byte, and no rule can remove a field by its value.
core.register_action("drop-fields-beyond-ascii", { "http-req" }, function(txn)
    for name, values in pairs(txn.http:req_get_headers()) do
        for _, value in pairs(values) do
            if value:find("[\x80-\xff]") then txn.http:req_del_header(name) end
        end
    end
end)
