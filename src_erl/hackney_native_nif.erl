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
         client_new/2, client_connect/1, client_info/1, client_load/1, client_retire/1, client_close/1, connect_on/3,
         status/0, memory/0, measure/1, measured/0, shutdown/1]).

-nifs([new/2, new_many/3, connect/1,
       send/3, send_many/3, await_room/3, send_trailers/2, send_many_trailers/2,
       recv/2, recv_many/2, stop_waiting/1,
       consume/2, set_active/2, set_owner/2, close/1, info/1,
       client_new/2, client_connect/1, client_info/1, client_load/1, client_retire/1, client_close/1, connect_on/3,
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

%% @doc Makes a connection that belongs to the calling process, with the options that {@link hackney_native_options:connection/1}
%% makes. Starts so many threads if the engine has none. On a dirty scheduler.
-spec client_new(Options :: map(), Workers :: pos_integer()) -> ok | error().
client_new(_Options, _Workers) -> not_loaded().

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
%% `recv_many/2' has to take it. After `{wait, RecvTimeout}', `{hackney_native, Ref}' tells the caller when to look again.
-spec recv(pid(), reference()) ->
          {ok, hackney_native_h2_stream:h2_msg()} | again | many | {wait, timeout()} | error().
recv(_Pid, _Ref) -> not_loaded().

%% @doc `recv/2' on a dirty scheduler.
-spec recv_many(pid(), reference()) ->
          {ok, hackney_native_h2_stream:h2_msg()} | again | {wait, timeout()} | error().
recv_many(_Pid, _Ref) -> not_loaded().

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
