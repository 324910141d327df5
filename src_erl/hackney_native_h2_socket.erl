%% @private
%% @doc A socket of Erlang's, `gen_tcp' or `ssl', becomes a connection of the engine's.
-module(hackney_native_h2_socket).

-export([adopt/4, peer/1]).

-export_type([socket/0]).

-type socket() :: gen_tcp:socket() | ssl:sslsocket().

%% @doc Begins the connection of the calling process, which controls `Socket'; events go to `PostTo'. The descriptor of a `gen_tcp' socket
%% is taken over; the bytes of an `ssl' socket are carried, so that its TLS stays `ssl''s.
-spec adopt(client | server, socket(), PostTo :: pid(), Engine :: map()) -> ok | {error, term()}.
adopt(Mode, Socket, PostTo, Engine0) ->
    Engine = Engine0#{authority => authority(Socket)},
    Threads = hackney_native_options:worker_threads(),
    case is_ssl(Socket) of
        true -> adopt_bytes(Mode, Socket, PostTo, Engine, Threads);
        false -> adopt_descriptor(Mode, Socket, PostTo, Engine, Threads)
    end.

adopt_bytes(Mode, Socket, PostTo, Engine, Threads) ->
    {Reader, Writer} = hackney_native_h2_bridge:start(self(), Socket),
    Adopted = case ssl:controlling_process(Socket, Reader) of
                  ok ->
                      Stream = {Writer, address(ssl:peername(Socket)), address(ssl:sockname(Socket))},
                      hackney_native_nif:adopt(Mode, Stream, PostTo, Engine, Threads);
                  {error, _} = Refused ->
                      Refused
              end,
    case Adopted of
        ok -> hackney_native_h2_bridge:carry(Reader, Writer);
        {error, _} = Error -> hackney_native_h2_bridge:stop(Reader, Writer), Error
    end.

adopt_descriptor(Mode, Socket, PostTo, Engine, Threads) ->
    case descriptor(Socket) of
        {ok, Descriptor} ->
            Adopted = hackney_native_nif:adopt(Mode, Descriptor, PostTo, Engine, Threads),
            %% The engine has a descriptor of its own.
            ok = gen_tcp:close(Socket),
            Adopted;
        {error, _} = Error ->
            Error
    end.

%% @doc The peer's address, unless the socket is closed.
-spec peer(socket()) -> {inet:ip_address(), inet:port_number()} | undefined.
peer(Socket) ->
    case case is_ssl(Socket) of true -> ssl:peername(Socket); false -> inet:peername(Socket) end of
        {ok, Peer} -> Peer;
        {error, _} -> undefined
    end.

is_ssl(Socket) -> is_tuple(Socket) andalso element(1, Socket) =:= sslsocket.

descriptor({'$inet', gen_tcp_socket, {_, Socket}}) -> socket:getopt(Socket, otp, fd);
descriptor(Socket) -> inet:getfd(Socket).

address({ok, {Ip, Port}}) -> {list_to_binary(inet:ntoa(Ip)), Port};
address({error, _}) -> {<<"0.0.0.0">>, 0}.

authority(Socket) ->
    case peer(Socket) of
        {Ip, Port} -> hackney_native_url:authority(https, list_to_binary(inet:ntoa(Ip)), Port);
        undefined -> <<"localhost">>
    end.
