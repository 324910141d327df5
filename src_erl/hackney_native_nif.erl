%% @private The functions of the native library, and nothing else: this module hardly ever changes, so that upgrades of the
%% others never touch the library. What the functions mean is told where they are used, in {@link hackney_native_h2_stream};
%% how they work, in `native/nif/src/calls.rs'.
%%
%% When the library is missing, cannot be read, or belongs to another version, this module still loads, and every function
%% returns `{error, {nif_not_loaded, Text}}'. In a node where it works it can be loaded again, changed or not, with streams
%% running; a version that cannot use the same library file is refused, and the one that runs stays.
-module(hackney_native_nif).

-export([new/2, new_many/3, connect/1,
         send/3, send_many/3, await_room/3, send_trailers/2, send_many_trailers/2,
         recv/2, recv_many/2, stop_waiting/1,
         consume/2, set_active/2, set_owner/2, close/1, info/1,
         client_new/3, client_connect/1, client_info/1, client_load/1, client_retire/1, client_close/1, connect_on/3,
         h2_request/3, h2_request_many/3, h2_respond/5, h2_respond_many/5, h2_respond_with/5,
         h2_send_data/4, h2_send_many/4, h2_send_and_wait/5, h2_stop_waiting/2, h2_send_trailers/3, h2_send_many_trailers/3,
         h2_consume/3, h2_cancel/3, h2_set_handler/5, h2_unset_handler/2, h2_peer_settings/1,
         h2_handlers/0, h2_set_owner/1, h2_drain/0, h2_orphan/3,
         listen/2, unlisten/0, serve_accepted/4, adopt/5, feed/2, feed_written/2, feed_end/2,
         status/0, memory/0, measure/1, measured/0, shutdown/1]).

-nifs([new/2, new_many/3, connect/1,
       send/3, send_many/3, await_room/3, send_trailers/2, send_many_trailers/2,
       recv/2, recv_many/2, stop_waiting/1,
       consume/2, set_active/2, set_owner/2, close/1, info/1,
       client_new/3, client_connect/1, client_info/1, client_load/1, client_retire/1, client_close/1, connect_on/3,
       h2_request/3, h2_request_many/3, h2_respond/5, h2_respond_many/5, h2_respond_with/5,
       h2_send_data/4, h2_send_many/4, h2_send_and_wait/5, h2_stop_waiting/2, h2_send_trailers/3, h2_send_many_trailers/3,
       h2_consume/3, h2_cancel/3, h2_set_handler/5, h2_unset_handler/2, h2_peer_settings/1,
       h2_handlers/0, h2_set_owner/1, h2_drain/0, h2_orphan/3,
       listen/2, unlisten/0, serve_accepted/4, adopt/5, feed/2, feed_written/2, feed_end/2,
       status/0, memory/0, measure/1, measured/0, shutdown/1]).

-on_load(load/0).

%% Agreed on with the library, see `native/nif/src/lifecycle.rs'.
-define(ABI, 4).
-define(NOT_LOADED, {?MODULE, not_loaded}).

-type error() :: {error, term()}.

%% A node must not stop for want of a library that it may never use: without one this module loads as well. But code that
%% has a library is not replaced by code that has none: then the result is an error, and the VM keeps what it runs.
load() ->
    Path = filename:join(priv_dir(), "hackney_native"),
    case open(Path) of
        ok ->
            ok;
        {error, Text} ->
            case erlang:module_loaded(?MODULE) andalso ?MODULE:status() of
                ok ->
                    {error, Text};
                _ ->
                    Error = {error, {nif_not_loaded, lists:flatten(["hackney_native has no library: ", Text])}},
                    persistent_term:put(?NOT_LOADED, Error),
                    ok
            end
    end.

priv_dir() ->
    case code:priv_dir(hackney_native) of
        {error, bad_name} ->
            %% Loaded by path, outside an application directory.
            filename:join(filename:dirname(filename:dirname(code:which(?MODULE))), "priv");
        Dir ->
            Dir
    end.

open(Path) ->
    File = Path ++ ".so",
    case check(File) of
        ok ->
            case erlang:load_nif(Path, ?ABI) of
                ok -> ok;
                {error, {Why, Text}} -> {error, explain(Why, File, Text)}
            end;
        {error, truncated} ->
            {error, io_lib:format("~ts is cut off, as a copy that was interrupted or a full disk leaves it: "
                                  "compile hackney_native again, or copy the file again", [File])};
        {error, enoent} ->
            {error, io_lib:format("there is no file ~ts: compiling hackney_native makes it (with cargo, or from the file "
                                  "that HACKNEY_NATIVE_LIB names); a release must include priv/", [File])};
        {error, Posix} ->
            {error, io_lib:format("~ts cannot be read: ~ts", [File, file:format_error(Posix)])}
    end.

%% Of a file that ends too early the dynamic linker maps what is not there, and the node dies of SIGBUS. Linkers put the
%% table of sections last: where that is whole, so is the rest. Other formats than 64-bit little-endian ELF pass.
check(File) ->
    case file:open(File, [read, raw, binary]) of
        {ok, Device} ->
            Header = file:pread(Device, 0, 64),
            Size = file:position(Device, eof),
            ok = file:close(Device),
            check(Header, Size);
        {error, _} = Error ->
            Error
    end.

check({ok, <<16#7f, "ELF", 2, 1, _:34/binary, Sections:64/little, _:10/binary, Each:16/little, Count:16/little, _/binary>>},
      {ok, Size}) when Sections + Each * Count > Size ->
    {error, truncated};
check({ok, _}, {ok, _}) ->
    ok;
check(eof, _) ->
    {error, truncated};
check({error, _} = Error, _) ->
    Error;
check(_, {error, _} = Error) ->
    Error.

explain(load, File, _Text) ->
    io_lib:format("~ts belongs to another version of hackney_native than its modules (they want ABI ~b): compile both "
                  "together. If that was done while this node ran, restart it: it keeps a library that it has once opened",
                  [File, ?ABI]);
explain(upgrade, File, _Text) ->
    io_lib:format("the new hackney_native_nif was not loaded, the running one goes on: they do not share a library. The new "
                  "one wants ~ts with ABI ~b, the node runs another. Restart the node; or stop hackney_native, then "
                  "code:delete, code:purge and load hackney_native_nif", [File, ?ABI]);
explain(load_failed, _File, Text) ->
    io_lib:format("~ts - it must be a library for this system, this processor and this C library: compile hackney_native "
                  "on this machine, or on one of its kind", [Text]);
explain(_Why, _File, Text) ->
    Text.

not_loaded() ->
    persistent_term:get(?NOT_LOADED, {error, {nif_not_loaded, "hackney_native has no library"}}).

%% @doc Makes a stream that belongs to the calling process and posts to `Owner'. The options are those that
%% {@link hackney_native_options} makes. `again': the engine's threads do not run, `new_many/3' starts them.
-spec new(Owner :: pid(), Options :: map()) -> ok | again | error().
new(_Owner, _Options) -> not_loaded().

%% @doc `new/2' on a dirty scheduler; starts so many threads if the engine has none.
-spec new_many(Owner :: pid(), Options :: map(), Workers :: pos_integer()) -> ok | error().
new_many(_Owner, _Options, _Workers) -> not_loaded().

%% @doc Opens the caller's stream. `{hackney_native_nif, opened | {failed, Reason}}' follows, later `ended' and `drained'.
-spec connect(timeout()) -> ok | error().
connect(_Timeout) -> not_loaded().

%% @doc Makes a connection that belongs to the calling process, with the options that
%% {@link hackney_native_connection_options:connection/1} makes; `Owner' is sent the events of its streams. Starts so many threads if the engine has none. On a dirty scheduler.
-spec client_new(Owner :: pid(), Options :: map(), Workers :: pos_integer()) -> ok | error().
client_new(_Owner, _Options, _Workers) -> not_loaded().

%% @doc Connects the caller's connection. `{hackney_native_nif, connected | {failed, Reason}}' follows, later
%% `{goaway, LastStreamId, Code}' and `{over, Reason}'.
-spec client_connect(timeout()) -> ok | error().
client_connect(_Timeout) -> not_loaded().

%% @doc What is known of the connection of a process.
-spec client_info(pid()) -> {ok, map()} | error().
client_info(_Pid) -> not_loaded().

%% @doc How many streams a connection has, those in line included, may have, and has had. `{error, closed}' when none can be opened.
-spec client_load(pid()) ->
          {Streams :: non_neg_integer(), Most :: non_neg_integer() | infinity, Opened :: non_neg_integer()} | error().
client_load(_Pid) -> not_loaded().

%% @doc Lets no more streams be opened on a connection, which ends with its last.
-spec client_retire(pid()) -> ok | error().
client_retire(_Pid) -> not_loaded().

%% @doc Closes the caller's connection.
-spec client_close(pid()) -> ok | error().
client_close(_Pid) -> not_loaded().

%% @doc Opens the caller's stream on the connection of a process. After `wait' it is in line for a place, and it is as after
%% `connect/1'. Without `Waits', `{error, full}' when there is no place.
-spec connect_on(pid(), timeout(), Waits :: boolean()) -> opened | wait | error().
connect_on(_Connection, _Timeout, _Waits) -> not_loaded().

%% @doc Sends a request on the connection of a process: `{ok, StreamId}'. After `wait', `{hackney_native, Ref, {ok, StreamId} |
%% {error, Reason}}' follows soon.
-spec h2_request(pid(), map(), reference()) -> {ok, pos_integer()} | wait | error().
h2_request(_Conn, _Request, _Ref) -> not_loaded().

%% @doc `h2_request/3' on a dirty scheduler.
-spec h2_request_many(pid(), map(), reference()) -> {ok, pos_integer()} | wait | error().
h2_request_many(_Conn, _Request, _Ref) -> not_loaded().

%% @doc Sends a response's header fields, with `Fin' all of it; with a 1xx status, what goes ahead of it.
-spec h2_respond(pid(), pos_integer(), 100..999, [{binary(), binary()}], Fin :: boolean()) -> ok | error().
h2_respond(_Conn, _StreamId, _Status, _Headers, _Fin) -> not_loaded().

%% @doc `h2_respond/5' on a dirty scheduler.
-spec h2_respond_many(pid(), pos_integer(), 100..999, [{binary(), binary()}], Fin :: boolean()) -> ok | error().
h2_respond_many(_Conn, _StreamId, _Status, _Headers, _Fin) -> not_loaded().

%% @doc Sends a whole response.
-spec h2_respond_with(pid(), pos_integer(), 200..999, [{binary(), binary()}], binary() | [binary()]) -> ok | error().
h2_respond_with(_Conn, _StreamId, _Status, _Headers, _Body) -> not_loaded().

%% @doc Queues body bytes, all or nothing.
-spec h2_send_data(pid(), pos_integer(), binary() | [binary()], Fin :: boolean()) -> ok | error().
h2_send_data(_Conn, _StreamId, _Data, _Fin) -> not_loaded().

%% @doc `h2_send_data/4' on a dirty scheduler.
-spec h2_send_many(pid(), pos_integer(), [binary()], Fin :: boolean()) -> ok | error().
h2_send_many(_Conn, _StreamId, _Data, _Fin) -> not_loaded().

%% @doc Queues body bytes whatever is queued. `ok': all has left. After `wait', `{hackney_native, Ref, ok | {error, Reason}}' follows
%% when it has, or never will.
-spec h2_send_and_wait(pid(), pos_integer(), binary() | [binary()], Fin :: boolean(), reference()) -> ok | wait | error().
h2_send_and_wait(_Conn, _StreamId, _Data, _Fin, _Ref) -> not_loaded().

%% @doc Stops the caller's waiting for that. `false': it was told already.
-spec h2_stop_waiting(pid(), pos_integer()) -> boolean() | error().
h2_stop_waiting(_Conn, _StreamId) -> not_loaded().

%% @doc Queues trailers behind all data.
-spec h2_send_trailers(pid(), pos_integer(), [{binary(), binary()}]) -> ok | error().
h2_send_trailers(_Conn, _StreamId, _Headers) -> not_loaded().

%% @doc `h2_send_trailers/3' on a dirty scheduler.
-spec h2_send_many_trailers(pid(), pos_integer(), [{binary(), binary()}]) -> ok | error().
h2_send_many_trailers(_Conn, _StreamId, _Headers) -> not_loaded().

%% @doc Gives received bytes back to the peer, at most what is to be given back.
-spec h2_consume(pid(), pos_integer(), non_neg_integer()) -> ok | error().
h2_consume(_Conn, _StreamId, _N) -> not_loaded().

%% @doc Resets a stream.
-spec h2_cancel(pid(), pos_integer(), Code :: non_neg_integer()) -> ok | error().
h2_cancel(_Conn, _StreamId, _Code) -> not_loaded().

%% @doc Has a process handle a stream. With `Drain', body bytes that are queued are returned instead of being sent to it.
-spec h2_set_handler(pid(), pos_integer(), pid(), Drain :: boolean(), auto | manual | undefined) ->
          ok | {ok, [{binary(), boolean()}]} | error().
h2_set_handler(_Conn, _StreamId, _Handler, _Drain, _FlowControl) -> not_loaded().

%% @doc Has no process in particular handle a stream.
-spec h2_unset_handler(pid(), pos_integer()) -> ok | error().
h2_unset_handler(_Conn, _StreamId) -> not_loaded().

%% @doc What the peer has set by SETTINGS, by identifier.
-spec h2_peer_settings(pid()) -> {ok, [{non_neg_integer(), non_neg_integer()}]} | error().
h2_peer_settings(_Conn) -> not_loaded().

%% @doc Who handles streams of the caller's connection, but for its owner.
-spec h2_handlers() -> [pid()] | error().
h2_handlers() -> not_loaded().

%% @doc Makes another local process the owner of the caller's connection.
-spec h2_set_owner(pid()) -> ok | error().
h2_set_owner(_Owner) -> not_loaded().

%% @doc Lets no stream be opened any more on the caller's connection, which ends with those that are there.
-spec h2_drain() -> ok | error().
h2_drain() -> not_loaded().

%% @doc A process that handled a request has ended. With `Failed' the client gets status 500 if it can be, else the stream is reset;
%% without, it is reset if there is no response and nobody else handles it.
-spec h2_orphan(pid(), pos_integer(), Failed :: boolean()) -> ok | error().
h2_orphan(_Conn, _StreamId, _Failed) -> not_loaded().

%% @doc Listens: `{hackney_native_nif, {accepted, Id}}' follows for each connection. On a dirty scheduler.
-spec listen(map(), Workers :: pos_integer()) -> {ok, {inet:ip_address(), inet:port_number()}} | error().
listen(_Options, _Workers) -> not_loaded().

%% @doc Stops the caller's listening.
-spec unlisten() -> ok | error().
unlisten() -> not_loaded().

%% @doc Serves a connection that a listener has accepted; it belongs to the calling process.
-spec serve_accepted(Listener :: pid(), non_neg_integer(), Owner :: pid(), map()) -> ok | error().
serve_accepted(_Listener, _Id, _Owner, _Options) -> not_loaded().

%% @doc Makes a byte stream of Erlang's the calling process's connection: a descriptor, or `{Process, Peer, Local}'. The process is sent
%% `{hackney_native_nif, {bytes, Binary} | shutdown | drained | closed}'. On a dirty scheduler.
-spec adopt(client | server, integer() | {pid(), {binary(), 0..65535}, {binary(), 0..65535}}, Owner :: pid(), map(),
            Workers :: pos_integer()) -> ok | error().
adopt(_Role, _Stream, _Owner, _Options, _Workers) -> not_loaded().

%% @doc Bytes have come for such a connection. `true': no more, please, until `drained'.
-spec feed(pid(), binary()) -> boolean() | error().
feed(_Conn, _Data) -> not_loaded().

%% @doc So many of its bytes have been written.
-spec feed_written(pid(), non_neg_integer()) -> ok | error().
feed_written(_Conn, _Count) -> not_loaded().

%% @doc No more bytes will come.
-spec feed_end(pid(), Orderly :: boolean()) -> ok | error().
feed_end(_Conn, _Orderly) -> not_loaded().

%% @doc Queues bytes. `{wait, SendTimeout}' when there is no room.
-spec send(pid(), binary() | [binary()], fin | nofin) -> ok | {wait, timeout()} | error().
send(_Pid, _Data, _Fin) -> not_loaded().

%% @doc `send/3' on a dirty scheduler.
-spec send_many(pid(), [binary()], fin | nofin) -> ok | {wait, timeout()} | error().
send_many(_Pid, _Data, _Fin) -> not_loaded().

%% @doc After `wait', `{hackney_native, Ref}' tells the caller when to try again.
-spec await_room(pid(), non_neg_integer(), reference()) -> wait | ready | error().
await_room(_Pid, _Size, _Ref) -> not_loaded().

%% @doc Queues trailers behind all data.
-spec send_trailers(pid(), [{binary(), binary()}]) -> ok | error().
send_trailers(_Pid, _Headers) -> not_loaded().

%% @doc `send_trailers/2' on a dirty scheduler.
-spec send_many_trailers(pid(), [{binary(), binary()}]) -> ok | error().
send_many_trailers(_Pid, _Headers) -> not_loaded().

%% @doc Takes the next message. `again': there is none, but it will not be long. `many': it has so many header fields that
%% `recv_many/2' has to take it. After `{wait, RecvTimeout}', `{hackney_native, Name}' tells the caller when to look again; to one that has named a
%% number, the message itself may come as `{hackney_native, Name, Message}' instead.
-spec recv(pid(), Name :: reference() | integer()) ->
          {ok, hackney_native_h2_stream:h2_msg()} | again | many | {wait, timeout()} | error().
recv(_Pid, _Name) -> not_loaded().

%% @doc `recv/2' on a dirty scheduler.
-spec recv_many(pid(), Name :: reference() | integer()) ->
          {ok, hackney_native_h2_stream:h2_msg()} | again | {wait, timeout()} | error().
recv_many(_Pid, _Name) -> not_loaded().

%% @doc Stops the caller's waiting. `false': it was told already, the message is there or on its way.
-spec stop_waiting(pid()) -> boolean() | error().
stop_waiting(_Pid) -> not_loaded().

%% @doc Gives received bytes back to the peer.
-spec consume(pid(), non_neg_integer()) -> ok | error().
consume(_Pid, _N) -> not_loaded().

%% @doc Sets the delivery mode.
-spec set_active(pid(), boolean() | once | -32768..32767) -> ok | error().
set_active(_Pid, _Active) -> not_loaded().

%% @doc Posts to another local process from now on.
-spec set_owner(pid(), pid()) -> ok | error().
set_owner(_Pid, _Owner) -> not_loaded().

%% @doc Cancels the stream.
-spec close(pid()) -> ok | error().
close(_Pid) -> not_loaded().

%% @doc What is known of the stream.
-spec info(pid()) -> {ok, map()} | error().
info(_Pid) -> not_loaded().

%% @doc Whether the library is there.
-spec status() -> ok | error().
status() -> not_loaded().

%% @doc What the engine holds: see {@link hackney_native:memory/0}.
-spec memory() -> {ok, hackney_native:memory()} | error().
memory() -> not_loaded().

%% @doc Starts or stops measuring the calls of this module.
-spec measure(boolean()) -> ok | error().
measure(_On) -> not_loaded().

%% @doc What was measured: see {@link hackney_native:nif_times/0}.
-spec measured() -> {ok, hackney_native:nif_times()} | error().
measured() -> not_loaded().

%% @doc Ends every stream and stops the engine's threads, within so many milliseconds.
-spec shutdown(non_neg_integer()) -> ok | error().
shutdown(_Milliseconds) -> not_loaded().
