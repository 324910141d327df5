%% @private Carries the bytes of a connection whose TLS stays with Erlang's `ssl': two processes, one that reads the socket and feeds the
%% engine, and one that writes to it what the engine has written. Neither is the connection's own process, which must not wait for a
%% peer that reads slowly.
-module(hackney_native_h2_bridge).

-export([start/2, carry/2, stop/2]).
-export([reader/2, writer/2, read/2, write/3]).

%% Longer than the engine takes to say goodbye, if it runs.
-define(GOODBYE, 2000).

%% @doc Starts the processes, which wait for {@link carry/2}. The caller is the connection, with which they end.
-spec start(pid(), ssl:sslsocket()) -> {Reader :: pid(), Writer :: pid()}.
start(Conn, Socket) ->
    {proc_lib:spawn_link(?MODULE, reader, [Conn, Socket]), proc_lib:spawn_link(?MODULE, writer, [Conn, Socket])}.

%% @doc The reader owns the socket and the engine knows the connection: bytes may come.
-spec carry(pid(), pid()) -> ok.
carry(Reader, Writer) ->
    Writer ! {reader, Reader},
    Reader ! carry,
    ok.

%% @doc There will be nothing to carry.
-spec stop(pid(), pid()) -> ok.
stop(Reader, Writer) ->
    lists:foreach(fun(Pid) -> unlink(Pid), exit(Pid, kill) end, [Reader, Writer]).

%% @private
-spec reader(pid(), ssl:sslsocket()) -> ok.
reader(Conn, Socket) ->
    receive carry -> read(Conn, Socket) end.

%% @private Called by its full name, so that new code is taken up.
-spec read(pid(), ssl:sslsocket()) -> ok.
read(Conn, Socket) ->
    case ssl:setopts(Socket, [{active, once}]) of
        ok ->
            receive
                {ssl, Socket, Data} ->
                    case hackney_native_nif:feed(Conn, iolist_to_binary(Data)) of
                        false -> ?MODULE:read(Conn, Socket);
                        true -> receive drained -> ?MODULE:read(Conn, Socket) end;
                        %% The engine takes no more, but may have its goodbye still to be written. The writer ends it all.
                        {error, _} -> ?MODULE:read(Conn, Socket)
                    end;
                {ssl_closed, Socket} ->
                    _ = hackney_native_nif:feed_end(Conn, true), ok;
                {ssl_error, Socket, _} ->
                    _ = hackney_native_nif:feed_end(Conn, false), ok
            end;
        {error, closed} ->
            _ = hackney_native_nif:feed_end(Conn, true), ok;
        {error, _} ->
            _ = hackney_native_nif:feed_end(Conn, false), ok
    end.

%% @private
-spec writer(pid(), ssl:sslsocket()) -> ok.
writer(Conn, Socket) ->
    %% Until then it ends with the connection.
    receive {reader, Reader} -> process_flag(trap_exit, true), write(Conn, Socket, Reader) end.

%% @private As read/2.
-spec write(pid(), ssl:sslsocket(), pid()) -> ok.
write(Conn, Socket, Reader) ->
    receive
        {hackney_native_nif, {bytes, Data}} ->
            case ssl:send(Socket, Data) of
                ok ->
                    _ = hackney_native_nif:feed_written(Conn, byte_size(Data)),
                    ?MODULE:write(Conn, Socket, Reader);
                {error, _} ->
                    %% The reader, or nobody, tells why.
                    _ = hackney_native_nif:feed_end(Conn, false),
                    ?MODULE:write(Conn, Socket, Reader)
            end;
        {hackney_native_nif, drained} ->
            Reader ! drained,
            ?MODULE:write(Conn, Socket, Reader);
        {hackney_native_nif, shutdown} ->
            _ = ssl:shutdown(Socket, write),
            ?MODULE:write(Conn, Socket, Reader);
        {hackney_native_nif, closed} ->
            hang_up(Socket, Reader);
        %% The connection's process is gone, the engine says goodbye: `closed' follows, in a second at most; unless the engine was stopped.
        {'EXIT', Conn, _} ->
            _ = erlang:send_after(?GOODBYE, self(), {hackney_native_nif, closed}),
            ?MODULE:write(Conn, Socket, Reader);
        {'EXIT', _, _} ->
            ?MODULE:write(Conn, Socket, Reader)
    end.

hang_up(Socket, Reader) ->
    _ = ssl:close(Socket),
    exit(Reader, kill),
    ok.
